"""What a model card tells of the arguments."""

from __future__ import annotations

from typing import Any

from ...schemas import TrainingArguments


def hyperparameters(args: TrainingArguments) -> dict[str, Any]:
    """The arguments that say how a model was trained, by the reference's names and in its order."""
    found: dict[str, Any] = {
        "learning_rate": args.learning_rate,
        "train_batch_size": args.train_batch_size,
        "eval_batch_size": args.eval_batch_size,
        "seed": args.seed,
    }
    accumulation = args.gradient_accumulation_steps
    if accumulation > 1:
        found["gradient_accumulation_steps"] = accumulation
        found["total_train_batch_size"] = args.train_batch_size * accumulation
    given = args.optim_args or "No additional optimizer arguments"
    name = str(args.optim)
    if "adam" in name:
        found["optimizer"] = (
            f"Use {name} with betas=({args.adam_beta1},{args.adam_beta2}) and "
            f"epsilon={args.adam_epsilon} and optimizer_args={given}"
        )
    else:
        found["optimizer"] = f"Use {name} and the args are:\n{given}"
    found["lr_scheduler_type"] = str(args.lr_scheduler_type)
    if args.warmup_steps:
        found["lr_scheduler_warmup_steps"] = args.warmup_steps
    if args.max_steps != -1:
        found["training_steps"] = args.max_steps
    else:
        found["num_epochs"] = args.num_train_epochs
    if args.fp16:
        found["mixed_precision_training"] = "Native AMP"
    if args.label_smoothing_factor:
        found["label_smoothing_factor"] = args.label_smoothing_factor
    return found
