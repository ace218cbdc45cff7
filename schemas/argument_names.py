"""The names that `TrainingArguments` takes: obeyed, refused, and what version 4 called them.

The one list of them. The arguments object goes by it for what it refuses, `stepbus migrate` for
what it tells of a script, and a test holds it beside the installed reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SUPPORTED = frozenset(
    """
    output_dir do_train do_eval do_predict resume_from_checkpoint seed data_seed full_determinism
    use_cpu local_rank ddp_timeout
    per_device_train_batch_size per_device_eval_batch_size auto_find_batch_size num_train_epochs
    max_steps gradient_accumulation_steps average_tokens_across_devices max_grad_norm
    label_smoothing_factor
    learning_rate weight_decay adam_beta1 adam_beta2 adam_epsilon optim optim_args
    lr_scheduler_type lr_scheduler_kwargs warmup_steps
    bf16 fp16 bf16_full_eval fp16_full_eval tf32 activation_checkpointing
    activation_checkpointing_kwargs gradient_checkpointing gradient_checkpointing_kwargs
    torch_compile torch_compile_backend torch_compile_mode use_cache torch_empty_cache_steps
    logging_strategy logging_steps logging_first_step logging_nan_inf_filter log_level
    log_level_replica log_on_each_node disable_tqdm include_num_input_tokens_seen report_to run_name
    project trackio_space_id trackio_bucket_id trackio_static_space_id
    eval_strategy eval_steps eval_delay eval_on_start eval_accumulation_steps
    eval_do_concat_batches batch_eval_metrics include_for_metrics prediction_loss_only
    save_strategy save_steps save_total_limit save_only_model enable_jit_checkpoint
    load_best_model_at_end metric_for_best_model greater_is_better ignore_data_skip
    restore_callback_states_from_checkpoint
    dataloader_drop_last dataloader_num_workers dataloader_pin_memory
    dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context
    dataloader_in_order remove_unused_columns label_names train_sampling_strategy
    length_column_name
    push_to_hub hub_model_id hub_strategy hub_token hub_private_repo hub_always_push hub_revision
    """.split()
)
"""The reference's arguments that are obeyed here, with the reference's defaults."""

OWN = frozenset({"nan_policy", "preemption_budget_s", "drain_timeout_s"})
"""Arguments that the reference does not have."""

KEPT = frozenset({"logging_dir", "overwrite_output_dir"})
"""Names of version 4 that are still arguments here, though the reference has dropped them."""

_ONE_PROCESS = "stepbus trains in one process on one device: leave it out"
_NO_SHARDS = "stepbus shards no model: leave it out, or train through the bridge to the reference"
_ACCELERATE = "stepbus does not use accelerate: leave it out; the dataloader_* arguments are here"

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "deepspeed": _NO_SHARDS,
        "fsdp": _NO_SHARDS,
        "fsdp_config": _NO_SHARDS,
        "parallelism_config": _NO_SHARDS,
        "accelerator_config": _ACCELERATE,
        "ddp_find_unused_parameters": _ONE_PROCESS,
        "ddp_bucket_cap_mb": _ONE_PROCESS,
        "ddp_broadcast_buffers": _ONE_PROCESS,
        "ddp_static_graph": _ONE_PROCESS,
        "ddp_backend": _ONE_PROCESS,
        "save_on_each_node": _ONE_PROCESS,
        "eval_use_gather_object": _ONE_PROCESS,
        "use_liger_kernel": "stepbus patches no model: call liger_kernel's apply function on the "
        "model before the Trainer gets it",
        "liger_kernel_config": "stepbus patches no model: give these to liger_kernel's apply "
        "function before the Trainer gets the model",
        "neftune_noise_alpha": "stepbus adds no noise to embeddings: leave it out, and register a "
        "forward hook on model.get_input_embeddings()",
        "optim_target_modules": "stepbus makes none of the optimizers that use it: pass "
        "optimizers=(optimizer, None) to the Trainer",
        "debug": "stepbus has no debug modes: leave it out, and find overflows with "
        "torch.autograd.set_detect_anomaly(True)",
        "skip_memory_metrics": "stepbus takes no memory metrics: leave it out, and read "
        "torch.cuda.max_memory_allocated()",
    }
)
"""The reference's arguments that must stay at their default, and what to do instead."""

FORMER: Mapping[str, str] = MappingProxyType(
    {
        "evaluation_strategy": "eval_strategy",
        "no_cuda": "use_cpu",
        "use_mps_device": "nothing: an MPS device is found by itself, and use_cpu=True avoids it",
        "warmup_ratio": "warmup_steps, which below 1 is a part of the run",
        "group_by_length": "train_sampling_strategy='group_by_length'",
        "logging_dir": "nothing: the tracker's own settings say where it writes; it is kept, and "
        "TensorBoard obeys it",
        "overwrite_output_dir": "nothing: it is kept and has no effect, since checkpoints of "
        "other runs are left alone",
        "include_inputs_for_metrics": "include_for_metrics=['inputs']",
        "include_tokens_per_second": "include_num_input_tokens_seen='all'",
        "save_safetensors": "nothing: weights are always written as safetensors",
        "per_gpu_train_batch_size": "per_device_train_batch_size",
        "per_gpu_eval_batch_size": "per_device_eval_batch_size",
        "push_to_hub_model_id": "hub_model_id",
        "push_to_hub_organization": "hub_model_id, as 'organization/name'",
        "push_to_hub_token": "hub_token",
        "half_precision_backend": "nothing: torch's own autocast is used",
        "fp16_backend": "nothing: torch's own autocast is used",
        "torchdynamo": "torch_compile_backend",
    }
)
"""Version 4's names that are still taken, with a warning, and what each has become."""

FORMER_VALUES: Mapping[str, str] = MappingProxyType(
    {
        "save_safetensors": "weights are always written as safetensors: leave it out",
        "half_precision_backend": "torch's own autocast is used: leave it out, or write 'auto'",
        "fp16_backend": "torch's own autocast is used: leave it out, or write 'auto'",
    }
)
"""Names in `FORMER` of which only version 4's default is taken, and what to do instead."""

_TPU = "stepbus does not train on TPUs: leave it out"

FORMER_REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "adafactor": "pass optimizers=(optimizer, None) to the Trainer",
        "fp16_opt_level": "apex is not used: leave it out; fp16=True is torch's own autocast",
        "jit_mode_eval": "leave it out, or write torch_compile=True",
        "past_index": "leave it out, and hand past states on in a compute_loss of your own",
        "tpu_num_cores": _TPU,
        "tpu_metrics_debug": _TPU,
        "mp_parameters": "stepbus has no SageMaker model parallelism: leave it out",
        "ray_scope": "stepbus searches no hyperparameters: make one Trainer for each trial",
        "use_legacy_prediction_loop": "there is one evaluation loop: leave it out",
        "fsdp_min_num_params": _NO_SHARDS,
        "fsdp_transformer_layer_cls_to_wrap": _NO_SHARDS,
        "sharded_ddp": _NO_SHARDS,
        "dispatch_batches": _ACCELERATE,
        "split_batches": _ACCELERATE,
        "use_ipex": "leave it out, or optimize the model before the Trainer gets it",
        "xpu_backend": _ONE_PROCESS,
    }
)
"""Version 4's names that are no longer taken, and what to do instead."""
