"""Which test shows each argument; see `tests.compat.coverage`."""

from __future__ import annotations

from stepbus.schemas import argument_names

Table = dict[str, str]

HERE = "tests/compat/test_"
BESIDE = "tests/differential/test_"
RUNS = f"{HERE}arguments_of_runs.py::test_cases"
MODELS = f"{HERE}arguments_of_models.py::test_"
PRECISION = f"{HERE}arguments_of_precision.py::test_"
LOGS = f"{HERE}arguments_of_logs.py::test_"
DATA = f"{HERE}arguments_of_data.py::test_"
EVALUATION = f"{HERE}arguments_of_evaluation.py::test_"
REFUSED = f"{HERE}refused_arguments.py::test_"
FORMER = f"{HERE}former_arguments.py::test_"
LENGTHS = f"{BESIDE}lengths.py::test_same_as_the_reference"
OPTIMIZERS = f"{BESIDE}optimizers.py::test_optimizers"
SCHEDULES = f"{BESIDE}optimizers.py::test_schedules"
STRATEGIES = f"{BESIDE}strategies.py::test_"
METRICS = f"{EVALUATION}metrics_are_given_what_they_are_given_there"
HUB = f"{HERE}arguments_of_the_hub.py::test_"
LOADERS = f"{DATA}loaders_are_made_with_what_the_reference_makes_them_with"
BEST = f"{EVALUATION}the_best_model_is_that_of_the_reference"

ARGUMENTS: Table = {
    "output_dir": f"{HERE}arguments_of_runs.py::test_use_cpu_and_the_folder_are_obeyed",
    "do_train": f"{RUNS}[do_train and do_predict]",
    "do_eval": f"{STRATEGIES}evaluating[do_eval alone]",
    "do_predict": f"{RUNS}[do_train and do_predict]",
    "resume_from_checkpoint": f"{RUNS}[resume_from_checkpoint, which train() does not read]",
    "seed": f"{BESIDE}lengths.py::test_seeds",
    "data_seed": f"{RUNS}[data_seed]",
    "full_determinism": f"{RUNS}[full_determinism]",
    "use_cpu": f"{HERE}arguments_of_runs.py::test_use_cpu_and_the_folder_are_obeyed",
    "local_rank": f"{RUNS}[local_rank -1]",
    "ddp_timeout": f"{RUNS}[ddp_timeout]",
    "per_device_train_batch_size": f"{LOADERS}[per_device_train_batch_size]",
    "per_device_eval_batch_size": f"{METRICS}[per_device_eval_batch_size]",
    "auto_find_batch_size": f"{RUNS}[auto_find_batch_size, from 8]",
    "num_train_epochs": LENGTHS,
    "max_steps": LENGTHS,
    "gradient_accumulation_steps": LENGTHS,
    "average_tokens_across_devices": f"{RUNS}[average_tokens_across_devices]",
    "max_grad_norm": OPTIMIZERS,
    "label_smoothing_factor": f"{BESIDE}models.py::test_classifiers",
    "learning_rate": OPTIMIZERS,
    "weight_decay": OPTIMIZERS,
    "adam_beta1": OPTIMIZERS,
    "adam_beta2": OPTIMIZERS,
    "adam_epsilon": OPTIMIZERS,
    "optim": OPTIMIZERS,
    "optim_args": OPTIMIZERS,
    "lr_scheduler_type": SCHEDULES,
    "lr_scheduler_kwargs": SCHEDULES,
    "warmup_steps": SCHEDULES,
    "bf16": f"{PRECISION}precision[bf16]",
    "fp16": f"{PRECISION}precision[fp16, which the CPU has not]",
    "bf16_full_eval": f"{PRECISION}precision[bf16_full_eval, evaluate]",
    "fp16_full_eval": f"{PRECISION}precision[fp16_full_eval, evaluate]",
    "tf32": f"{PRECISION}tf32_is_on_where_the_reference_has_it_on",
    "activation_checkpointing": f"{MODELS}checkpointing[use_reentrant False]",
    "activation_checkpointing_kwargs": f"{MODELS}checkpointing[every second layer]",
    "gradient_checkpointing": f"{MODELS}checkpointing[the older names]",
    "gradient_checkpointing_kwargs": f"{MODELS}checkpointing[the older names]",
    "torch_compile": f"{PRECISION}compiled[eager]",
    "torch_compile_backend": f"{PRECISION}compiled[aot_eager]",
    "torch_compile_mode": f"{PRECISION}a_mode_of_compiling_reaches_torch",
    "use_cache": f"{MODELS}use_cache_reaches_the_model_s_configuration",
    "torch_empty_cache_steps": f"{MODELS}others[torch_empty_cache_steps]",
    "logging_strategy": f"{STRATEGIES}logging",
    "logging_steps": f"{STRATEGIES}logging",
    "logging_first_step": f"{STRATEGIES}logging",
    "logging_nan_inf_filter": f"{LOGS}cases[logging_nan_inf_filter False]",
    "log_level": f"{LOGS}a_log_level_is_that_of_transformers_loggers",
    "log_level_replica": f"{LOGS}cases[log_level_replica and log_on_each_node]",
    "log_on_each_node": f"{LOGS}cases[log_level_replica and log_on_each_node]",
    "disable_tqdm": f"{LOGS}the_display_is_that_of_the_reference",
    "include_num_input_tokens_seen": f"{LOGS}cases[include_num_input_tokens_seen all]",
    "report_to": f"{LOGS}tensorboard_has_the_scalars_of_the_reference",
    "run_name": f"{LOGS}the_names_for_trackers_travel_with_the_events",
    "project": f"{LOGS}the_names_for_trackers_travel_with_the_events",
    "trackio_space_id": f"{LOGS}the_names_for_trackers_travel_with_the_events",
    "trackio_bucket_id": f"{LOGS}the_names_for_trackers_travel_with_the_events",
    "trackio_static_space_id": f"{LOGS}the_names_for_trackers_travel_with_the_events",
    "eval_strategy": f"{STRATEGIES}evaluating",
    "eval_steps": f"{STRATEGIES}evaluating",
    "eval_delay": f"{STRATEGIES}evaluating",
    "eval_on_start": f"{STRATEGIES}evaluating",
    "eval_accumulation_steps": f"{METRICS}[eval_accumulation_steps]",
    "eval_do_concat_batches": f"{METRICS}[eval_do_concat_batches]",
    "batch_eval_metrics": f"{METRICS}[batch_eval_metrics]",
    "include_for_metrics": f"{METRICS}[include_for_metrics, both]",
    "prediction_loss_only": f"{METRICS}[prediction_loss_only]",
    "save_strategy": f"{STRATEGIES}saving",
    "save_steps": f"{STRATEGIES}saving",
    "save_total_limit": f"{STRATEGIES}saving",
    "save_only_model": f"{EVALUATION}a_checkpoint_of_the_model_only_has_the_files_of_the_reference",
    "enable_jit_checkpoint": f"{RUNS}[enable_jit_checkpoint]",
    "load_best_model_at_end": BEST,
    "metric_for_best_model": BEST,
    "greater_is_better": f"{BEST}[greater_is_better False, save_only_model True]",
    "ignore_data_skip": f"{BESIDE}calls.py::test_resumed[data not skipped]",
    "restore_callback_states_from_checkpoint": f"{RUNS}[restore_callback_states_from_checkpoint]",
    "dataloader_drop_last": f"{LOADERS}[dataloader_drop_last]",
    "dataloader_num_workers": f"{DATA}workers[workers]",
    "dataloader_pin_memory": f"{DATA}memory_is_pinned_where_there_is_a_device_to_copy_to",
    "dataloader_persistent_workers": f"{DATA}workers[persistent workers, two sets]",
    "dataloader_prefetch_factor": f"{LOADERS}[dataloader_prefetch_factor]",
    "dataloader_multiprocessing_context": f"{LOADERS}[dataloader_multiprocessing_context]",
    "dataloader_in_order": f"{DATA}workers[not in order]",
    "remove_unused_columns": f"{DATA}columns[everything of a table]",
    "label_names": f"{DATA}columns[label_names]",
    "train_sampling_strategy": f"{DATA}order[group_by_length]",
    "length_column_name": f"{BESIDE}data.py::test_order",
    "push_to_hub": f"{HUB}a_training_leaves_what_the_reference_leaves[every_save]",
    "hub_model_id": f"{HUB}a_training_leaves_what_the_reference_leaves[every_save]",
    "hub_strategy": f"{HUB}a_training_leaves_what_the_reference_leaves",
    "hub_token": f"{HUB}a_token_is_used_and_written_nowhere",
    "hub_private_repo": f"{HUB}a_repository_that_is_made_is_private_where_that_is_asked_for",
    "hub_always_push": f"{HUB}a_training_leaves_what_the_reference_leaves",
    "hub_revision": f"{HUB}a_branch_is_pushed_to",
    "nan_policy": "tests/engine/test_non_finite.py::test_a_stop_policy_stops_at_that_very_step",
    "preemption_budget_s": (
        "tests/engine/test_stop_signals.py::"
        "test_a_save_that_took_longer_than_the_signal_leaves_is_not_begun"
    ),
    "drain_timeout_s": (
        "tests/engine/test_failed_runs.py::"
        "test_a_hanging_subscriber_does_not_keep_the_run_from_ending_on_time"
    ),
}

REFUSED_ARGUMENTS: Table = {
    name: f"{REFUSED}an_argument_is_refused_before_anything_is_written[{name}]"
    for name in argument_names.REFUSED
}

FORMER_ARGUMENTS: Table = {
    **{
        name: f"{FORMER}a_former_name_does_what_its_successor_does_in_the_reference[{name}]"
        for name in argument_names.FORMER
    },
    **{
        name: f"{REFUSED}a_former_argument_is_refused_with_what_to_do[{name}]"
        for name in argument_names.FORMER_REFUSED
    },
}
