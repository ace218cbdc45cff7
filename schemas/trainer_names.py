"""What a script may say to a `Trainer`: the reference's names, and what becomes of each here.

The one list of them. The `Trainer` goes by it for what it refuses, `stepbus migrate` for what it
tells of a script, and a test holds it beside the installed reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CONSTRUCTOR = frozenset(
    """
    model args data_collator train_dataset eval_dataset processing_class model_init
    compute_loss_func compute_metrics callbacks optimizers optimizer_cls_and_kwargs
    preprocess_logits_for_metrics bus
    """.split()
)
"""Arguments of `Trainer`; `bus` is stepbus's own."""

CALLED = frozenset(
    """
    train evaluate predict save_model save_state log log_metrics save_metrics metrics_format
    add_callback pop_callback remove_callback get_train_dataloader get_eval_dataloader
    get_test_dataloader num_examples get_learning_rates get_num_trainable_parameters
    floating_point_ops is_world_process_zero is_local_process_zero get_optimizer_cls_and_kwargs
    get_optimizer_group compute_loss_context_manager _prepare_inputs _get_dataloader
    _get_learning_rate _remove_unused_columns _get_collator_with_removed_columns
    _set_signature_columns_if_needed push_to_hub create_model_card
    """.split()
)
"""Methods that a script or a subclass may call."""

OVERRIDABLE = frozenset(
    """
    compute_loss training_step prediction_step evaluation_loop evaluate predict log
    get_train_dataloader get_eval_dataloader get_test_dataloader _get_train_sampler
    _get_eval_sampler create_optimizer create_scheduler create_optimizer_and_scheduler
    get_decay_parameter_names save_model _save push_to_hub create_model_card
    """.split()
)
"""Methods that a subclass may override: they are called, with the reference's signatures."""

ATTRIBUTES = frozenset(
    """
    args state control model model_wrapped optimizer lr_scheduler train_dataset eval_dataset
    data_collator compute_metrics processing_class tokenizer label_names is_in_train
    callback_handler model_init compute_loss_func optimizer_cls_and_kwargs
    preprocess_logits_for_metrics can_return_loss model_accepts_loss_kwargs loss_is_scaled_for_ga
    label_smoother current_gradient_accumulation_steps hub_model_id
    """.split()
)
"""Attributes of a `Trainer` that a script may read; of `callback_handler` its `callbacks`."""

_ONE_PROCESS = "stepbus trains in one process on one device"
_NO_SEARCH = "stepbus searches no hyperparameters: make one Trainer for each trial"
_PUSHES = (
    "checkpoints are pushed by the HubCallback, beside the training: subscribe to push_begin, or "
    "call push_to_hub()"
)

UNSUPPORTED_ATTRIBUTES: Mapping[str, str] = MappingProxyType(
    {
        "accelerator": "stepbus does not use accelerate: the device is args.device, the model "
        "trainer.model, and for accelerator.backward(loss) say loss.backward()",
        "deepspeed": f"{_ONE_PROCESS}: it has no DeepSpeed engine",
        "is_deepspeed_enabled": f"{_ONE_PROCESS}: DeepSpeed is never on",
        "is_fsdp_enabled": f"{_ONE_PROCESS}: FSDP is never on",
        "is_fsdp_xla_enabled": f"{_ONE_PROCESS}: FSDP is never on",
        "is_fsdp_xla_v1_enabled": f"{_ONE_PROCESS}: FSDP is never on",
        "is_fsdp_xla_v2_enabled": f"{_ONE_PROCESS}: FSDP is never on",
        "is_model_parallel": f"{_ONE_PROCESS}: the model is never split",
        "is_distributed_loading_by_transformers": f"{_ONE_PROCESS}: the model is never split",
        "gather_function": f"{_ONE_PROCESS}: there is nothing to gather",
        "place_model_on_device": "ask args.place_model_on_device",
        "current_flos": "read state.total_flos",
        "model_preparation_time": "stepbus does not measure it",
        "neftune_noise_alpha": "stepbus adds no noise to embeddings: hook the embedding layer",
        "neftune_hook_handle": "stepbus adds no noise to embeddings: hook the embedding layer",
        "hp_name": _NO_SEARCH,
        "hp_space": _NO_SEARCH,
        "hp_search_backend": _NO_SEARCH,
        "objective": _NO_SEARCH,
        "compute_objective": _NO_SEARCH,
        "push_in_progress": _PUSHES,
    }
)
"""Attributes of the reference's `Trainer` that there are none of here, with the reason."""

NOT_OVERRIDDEN: Mapping[str, str] = MappingProxyType(
    {
        "compute_loss_context_manager": "bf16 and fp16 open it around compute_loss; for code of "
        "your own use torch.autocast",
        "get_optimizer_cls_and_kwargs": "give optimizers, optimizer_cls_and_kwargs, or override "
        "create_optimizer",
        "get_optimizer_group": "look in trainer.optimizer.param_groups",
        "_prepare_inputs": "stepbus moves the batch before compute_loss, training_step and "
        "prediction_step: override one of those, or move it to args.device",
        "_get_dataloader": "override get_train_dataloader, get_eval_dataloader or "
        "get_test_dataloader",
        "_remove_unused_columns": "set remove_unused_columns",
        "_get_collator_with_removed_columns": "set remove_unused_columns",
        "_set_signature_columns_if_needed": "set remove_unused_columns and label_names",
        "_get_learning_rate": "call get_learning_rates",
    }
)
"""Methods that may be called and not be overridden, with what to do instead."""

REFUSED_METHODS: Mapping[str, str] = MappingProxyType(
    {
        "hyperparameter_search": _NO_SEARCH,
        "call_model_init": "call the model_init that you gave",
        "create_accelerator_and_postprocess": "stepbus does not use accelerate: leave it out",
        "autocast_smart_context_manager": "bf16 and fp16 open it around compute_loss; for code of "
        "your own use torch.autocast",
        "get_batch_samples": "stepbus loads the micro-batches of a step together: override "
        "get_train_dataloader",
        "get_cp_size": f"{_ONE_PROCESS}: it is 1",
        "get_sp_size": f"{_ONE_PROCESS}: it is 1",
        "get_tp_size": f"{_ONE_PROCESS}: it is 1",
        "get_total_train_batch_size": "multiply args.train_batch_size by "
        "args.gradient_accumulation_steps",
        "set_initial_training_values": "the number of steps is state.max_steps from train_begin on",
        "store_flos": "state.total_flos is kept up to date",
        "init_hf_repo": "with push_to_hub=True the repository is made when the Trainer is, and "
        "push_to_hub() makes it otherwise: leave it out",
        "end": "train() closes its trackers and there is one process: leave it out",
        "_prepare_input": "stepbus moves the batch before compute_loss, training_step and "
        "prediction_step: override one of those, or move it to args.device",
        "_wrap_model": f"{_ONE_PROCESS}: give the model as it should be",
        "_move_model_to_device": "move the model before it is given, or say use_cpu",
        "_inner_training_loop": "override compute_loss or training_step, or write the loop "
        "yourself with TrainingRun",
        "_run_epoch": "override compute_loss or training_step, or write the loop yourself with "
        "TrainingRun",
        "_maybe_log_save_evaluate": "vote for log, evaluate or save from a callback, override log, "
        "or subscribe to the events",
        "_evaluate": "override evaluate",
        "_save_checkpoint": "override _save or save_model, or subscribe to the event save",
        "_load_from_checkpoint": "train(resume_from_checkpoint=...) loads stepbus's checkpoints",
        "_load_best_model": "load_best_model_at_end does it",
        "_get_num_items_in_batch": "compute_loss gets num_items_in_batch",
        "_clip_grad_norm": "set max_grad_norm, or clip in a callback's on_pre_optimizer_step",
        "_push_from_checkpoint": _PUSHES,
        "_finish_current_push": _PUSHES,
        "_hp_search_setup": _NO_SEARCH,
        "_report_to_hp_search": _NO_SEARCH,
        "_tune_save_checkpoint": _NO_SEARCH,
    }
)
"""Methods of the reference's `Trainer` that there are none of here, with what to do instead."""

FORMER_METHODS: Mapping[str, str] = MappingProxyType(
    {
        "prediction_loop": "override evaluation_loop",
        "_nested_gather": f"{_ONE_PROCESS}: there is nothing to gather",
        "_pad_across_processes": f"{_ONE_PROCESS}: there is nothing to gather",
        "_rotate_checkpoints": "set save_total_limit",
        "_sorted_checkpoints": "use get_last_checkpoint",
    }
)
"""Methods that the reference's `Trainer` had before version 5, with what to do instead."""

REFERENCE_METHODS = (
    CALLED
    | OVERRIDABLE
    | REFUSED_METHODS.keys()
    | frozenset(
        """
    _build_accelerator_args _defer_fsdp_gradient_reduction _determine_best_metric
    _finalize_training _get_grad_norm _get_output_dir _has_mixed_mesh_grads _init_training_state
    _issue_warnings_after_load _load_callback_state _load_optimizer_and_scheduler _load_rng_state
    _load_scaler _mixed_mesh_grad_norm _prepare_context_parallel_inputs _prepare_for_training
    _save_optimizer_and_scheduler _save_rng_state _save_scaler _sync_replicated_trainable_parameters
    _track_num_input_tokens _update_auto_batch_size _validate_args
    """.split()
    )
)
"""All methods of the reference's `Trainer`, private ones too, its constructor left out."""


def instead_of_method(name: str) -> str:
    """What to do instead of calling or overriding a method that is not here."""
    tables = (REFUSED_METHODS, FORMER_METHODS, NOT_OVERRIDDEN)
    known = next((table[name] for table in tables if name in table), None)
    return known or "override a method that stepbus calls, or subscribe to the run's events"
