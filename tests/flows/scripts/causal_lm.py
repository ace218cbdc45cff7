# mypy: ignore-errors
"""Trains a causal language model on a text file, from the command line or from a JSON file.

Usage: python causal_lm.py --model_name_or_path DIR --train_file FILE --output_dir DIR ...
       python causal_lm.py SETTINGS.json
"""

import json
import logging
import math
import sys
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import load_dataset
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

logger = logging.getLogger(__name__)


@dataclass
class ModelArguments:
    """Which model is trained."""

    model_name_or_path: str = field(metadata={"help": "Folder with a configuration and tokenizer."})
    config_overrides: str | None = field(
        default=None, metadata={"help": "Changes of the configuration, such as n_embd=10,n_layer=2"}
    )


@dataclass
class DataTrainingArguments:
    """What it is trained on."""

    train_file: str = field(metadata={"help": "Text file to train on."})
    validation_file: str | None = field(default=None, metadata={"help": "Text file to evaluate."})
    block_size: int | None = field(default=None, metadata={"help": "Tokens in a sample."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "At most so many."})
    preprocessing_num_workers: int | None = field(default=None)

    def __post_init__(self) -> None:
        for name in (self.train_file, self.validation_file):
            if name is not None and Path(name).suffix not in (".txt", ".json"):
                raise ValueError(f"{name} should be a txt or json file")


def parse() -> tuple[ModelArguments, DataTrainingArguments, TrainingArguments]:
    parser = HfArgumentParser((ModelArguments, DataTrainingArguments, TrainingArguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        # All settings in one file, rather than on the command line.
        return parser.parse_json_file(json_file=str(Path(sys.argv[1]).resolve()))
    return parser.parse_args_into_dataclasses()


def preprocess_logits_for_metrics(logits: Any, labels: torch.Tensor) -> torch.Tensor:
    # Some models return past key values beside the logits, which always come first.
    if isinstance(logits, tuple):
        logits = logits[0]
    return logits.argmax(dim=-1)


def compute_metrics(eval_preds: Any) -> dict[str, float]:
    preds, labels = eval_preds
    # Each position predicts the next token.
    labels, preds = labels[:, 1:].reshape(-1), preds[:, :-1].reshape(-1)
    return {"accuracy": float(np.mean(preds == labels))}


def main() -> None:
    model_args, data_args, training_args = parse()
    logging.basicConfig(
        format="%(asctime)s - %(levelname)s - %(name)s - %(message)s",
        handlers=[logging.StreamHandler(sys.stdout)],
    )
    if training_args.should_log:
        transformers.utils.logging.set_verbosity_info()
    log_level = training_args.get_process_log_level()
    logger.setLevel(log_level)
    transformers.utils.logging.set_verbosity(log_level)
    transformers.utils.logging.enable_default_handler()
    transformers.utils.logging.enable_explicit_format()
    logger.warning(
        f"Process rank: {training_args.local_process_index}, device: {training_args.device}, "
        f"n_gpu: {training_args.n_gpu}, "
        f"distributed training: {training_args.parallel_mode.value == 'distributed'}, "
        f"16-bits training: {training_args.fp16}"
    )
    logger.info(f"Training/evaluation parameters {training_args}")

    last_checkpoint = None
    if Path(training_args.output_dir).is_dir() and training_args.do_train:
        last_checkpoint = get_last_checkpoint(training_args.output_dir)
        if last_checkpoint is not None and training_args.resume_from_checkpoint is None:
            logger.warning(f"Checkpoint detected, resuming training at {last_checkpoint}.")
    set_seed(training_args.seed)

    data_files = {"train": data_args.train_file}
    if data_args.validation_file is not None:
        data_files["validation"] = data_args.validation_file
    raw_datasets = load_dataset("text", data_files=data_files, keep_linebreaks=True)

    config = AutoConfig.from_pretrained(model_args.model_name_or_path)
    if model_args.config_overrides is not None:
        config.update_from_string(model_args.config_overrides)
    tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path)
    model = AutoModelForCausalLM.from_config(config)
    n_params = sum({p.data_ptr(): p.numel() for p in model.parameters()}.values())
    logger.info(f"Training new model from scratch - Total size={n_params} params")
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer))

    column_names = list(raw_datasets["train"].features)
    block_size = min(data_args.block_size or 1024, tokenizer.model_max_length)

    def tokenize_function(examples: dict[str, list[str]]) -> Any:
        return tokenizer(examples["text"])

    def group_texts(examples: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        # All texts in one, cut into blocks; what is left at the end is dropped.
        joined = {k: list(chain(*v)) for k, v in examples.items()}
        total = len(next(iter(joined.values()))) // block_size * block_size
        result = {
            k: [t[i : i + block_size] for i in range(0, total, block_size)]
            for k, t in joined.items()
        }
        result["labels"] = [list(ids) for ids in result["input_ids"]]
        return result

    with training_args.main_process_first(desc="dataset map tokenization"):
        tokenized = raw_datasets.map(
            tokenize_function,
            batched=True,
            num_proc=data_args.preprocessing_num_workers,
            remove_columns=column_names,
            desc="Running tokenizer on dataset",
        )
    with training_args.main_process_first(desc="grouping texts together"):
        lm_datasets = tokenized.map(
            group_texts, batched=True, desc=f"Grouping texts in chunks of {block_size}"
        )
    train_dataset = lm_datasets["train"]
    eval_dataset = None
    if training_args.do_eval:
        if "validation" not in lm_datasets:
            raise ValueError("--do_eval requires a validation dataset")
        eval_dataset = lm_datasets["validation"]
        if data_args.max_eval_samples is not None:
            eval_dataset = eval_dataset.select(
                range(min(len(eval_dataset), data_args.max_eval_samples))
            )

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=train_dataset if training_args.do_train else None,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        # Blocks have one length: there is nothing to pad.
        data_collator=default_data_collator,
        compute_metrics=compute_metrics if training_args.do_eval else None,
        preprocess_logits_for_metrics=preprocess_logits_for_metrics
        if training_args.do_eval
        else None,
    )

    if training_args.do_train:
        checkpoint = None
        if training_args.resume_from_checkpoint is not None:
            checkpoint = training_args.resume_from_checkpoint
        elif last_checkpoint is not None:
            checkpoint = last_checkpoint
        train_result = trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_model()  # Saves the tokenizer too
        metrics = train_result.metrics
        metrics["train_samples"] = len(train_dataset)
        trainer.log_metrics("train", metrics)
        trainer.save_metrics("train", metrics)
        trainer.save_state()

    if training_args.do_eval:
        logger.info("*** Evaluate ***")
        metrics = trainer.evaluate()
        metrics["eval_samples"] = len(eval_dataset)
        try:
            perplexity = math.exp(metrics["eval_loss"])
        except OverflowError:
            perplexity = float("inf")
        metrics["perplexity"] = perplexity
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)

    # What was saved can be used without the Trainer.
    reloaded = AutoModelForCausalLM.from_pretrained(training_args.output_dir)
    prompt = AutoTokenizer.from_pretrained(training_args.output_dir)("the", return_tensors="pt")
    tokens = reloaded.generate(**prompt, max_new_tokens=8, do_sample=False, pad_token_id=0)
    print(json.dumps({"generated": tokens.tolist()}))


if __name__ == "__main__":
    main()
