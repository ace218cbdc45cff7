"""Which test shows each name that a script may expect of stepbus.

By the parts of the lists in `schemas/argument_names.py` and `schemas/trainer_names.py`, and by what
else scripts take: imported names, members of the arguments, differences on purpose. A test is
written `path::function`, with the parameter in brackets where one of many is meant.
"""

from __future__ import annotations

from stepbus.schemas import trainer_names
from tests.compat.coverage_of_arguments import (
    ARGUMENTS,
    FORMER_ARGUMENTS,
    REFUSED_ARGUMENTS,
    Table,
)
from tests.compat.test_imports import TRACKERS

HERE = "tests/compat/test_"
BESIDE = "tests/differential/test_"
TRAINER = "tests/engine/trainer/test_"
LOGS = f"{HERE}arguments_of_logs.py::test_"
EVALUATION = f"{HERE}arguments_of_evaluation.py::test_"
REFUSED = f"{HERE}refused_arguments.py::test_"
IMPORTS = f"{HERE}imports.py::test_"
CONSTRUCTOR = f"{HERE}constructor.py::test_"
METHODS = f"{HERE}methods.py::test_"
OVERRIDES = f"{HERE}overrides.py::test_"
HUB = f"{HERE}arguments_of_the_hub.py::test_"
CARD = f"{HERE}model_card.py::test_"
ATTRIBUTES = f"{HERE}attributes.py::test_"
SUBCLASSES = f"{BESIDE}subclasses.py::test_overrides"

CONSTRUCTED: Table = {
    "model": f"{CONSTRUCTOR}a_model_alone_makes_a_trainer_that_predicts",
    "args": f"{CONSTRUCTOR}cases[by position]",
    "data_collator": f"{CONSTRUCTOR}cases[data_collator]",
    "train_dataset": f"{BESIDE}data.py::test_forms",
    "eval_dataset": f"{CONSTRUCTOR}cases[eval_dataset, several]",
    "processing_class": (
        f"{CONSTRUCTOR}cases[processing_class, whose padding is the default collator]"
    ),
    "model_init": f"{CONSTRUCTOR}cases[model_init]",
    "compute_loss_func": f"{CONSTRUCTOR}cases[compute_loss_func]",
    "compute_metrics": f"{CONSTRUCTOR}cases[compute_metrics]",
    "callbacks": f"{CONSTRUCTOR}callbacks_are_taken_as_classes_and_as_instances",
    "optimizers": f"{CONSTRUCTOR}optimizers",
    "optimizer_cls_and_kwargs": f"{CONSTRUCTOR}cases[optimizer_cls_and_kwargs]",
    "preprocess_logits_for_metrics": f"{CONSTRUCTOR}cases[preprocess_logits_for_metrics]",
    "bus": f"{CONSTRUCTOR}a_bus_of_ones_own_hears_of_the_run",
    "tokenizer": f"{CONSTRUCTOR}a_tokenizer_goes_by_its_former_name_with_one_warning",
}

CALLED: Table = {
    "train": f"{METHODS}cases[calls]",
    "evaluate": f"{METHODS}cases[calls]",
    "predict": f"{METHODS}cases[calls]",
    "save_model": f"{METHODS}a_saved_model_comes_back_by_from_pretrained",
    "save_state": f"{METHODS}a_saved_state_is_the_reference_s",
    "log": f"{METHODS}a_log_adds_the_epoch_and_a_row",
    "log_metrics": f"{METHODS}metrics_are_printed_and_written_as_there",
    "save_metrics": f"{METHODS}metrics_are_printed_and_written_as_there",
    "metrics_format": f"{METHODS}metrics_are_printed_and_written_as_there",
    "add_callback": f"{METHODS}callbacks_are_added_popped_and_removed",
    "pop_callback": f"{METHODS}callbacks_are_added_popped_and_removed",
    "remove_callback": f"{METHODS}callbacks_are_added_popped_and_removed",
    "get_train_dataloader": f"{METHODS}cases[figures of a regression]",
    "get_eval_dataloader": f"{METHODS}cases[figures of a regression]",
    "get_test_dataloader": f"{METHODS}cases[figures of a regression]",
    "num_examples": f"{METHODS}cases[figures of a regression]",
    "get_learning_rates": f"{METHODS}cases[figures of a regression]",
    "get_num_trainable_parameters": f"{METHODS}cases[figures of a frozen one]",
    "floating_point_ops": f"{METHODS}cases[figures of GPT-2]",
    "is_world_process_zero": f"{METHODS}cases[figures of a regression]",
    "is_local_process_zero": f"{METHODS}cases[figures of a regression]",
    "push_to_hub": f"{HUB}push_to_hub_leaves_what_the_reference_leaves",
    "create_model_card": f"{CARD}a_card_is_that_of_the_reference",
    **dict.fromkeys(trainer_names.NOT_OVERRIDDEN, f"{METHODS}cases[parts]"),
}

OVERRIDDEN: Table = {
    "compute_loss": f"{SUBCLASSES}[compute_loss, accumulation 4]",
    "training_step": f"{SUBCLASSES}[training_step]",
    "prediction_step": f"{SUBCLASSES}[prediction_step]",
    "evaluation_loop": f"{SUBCLASSES}[evaluation_loop]",
    "evaluate": f"{SUBCLASSES}[evaluate]",
    "predict": f"{OVERRIDES}overrides[predict]",
    "log": f"{SUBCLASSES}[log]",
    "get_train_dataloader": f"{SUBCLASSES}[loaders]",
    "get_eval_dataloader": f"{SUBCLASSES}[loaders]",
    "get_test_dataloader": f"{OVERRIDES}overrides[get_test_dataloader]",
    "_get_train_sampler": f"{SUBCLASSES}[samplers]",
    "_get_eval_sampler": f"{SUBCLASSES}[samplers]",
    "create_optimizer": f"{SUBCLASSES}[create_optimizer]",
    "create_scheduler": f"{SUBCLASSES}[create_scheduler]",
    "create_optimizer_and_scheduler": f"{OVERRIDES}create_optimizer_and_scheduler_is_called",
    "get_decay_parameter_names": f"{SUBCLASSES}[get_decay_parameter_names]",
    "save_model": f"{OVERRIDES}overrides[save_model]",
    "_save": f"{SUBCLASSES}[_save]",
    "push_to_hub": f"{HUB}overrides_are_called",
    "create_model_card": f"{HUB}overrides_are_called",
}

NEVER_CALLED: Table = {
    name: f"{OVERRIDES}an_override_that_would_never_be_called_is_refused_by_name[{name}]"
    for name in trainer_names.REFUSED_METHODS.keys() | trainer_names.FORMER_METHODS.keys()
}

READ: Table = {
    **dict.fromkeys(trainer_names.ATTRIBUTES, f"{ATTRIBUTES}attributes_are_those_of_the_reference"),
    "is_in_train": f"{ATTRIBUTES}it_is_in_train_while_it_trains",
    "callback_handler": f"{METHODS}callbacks_are_added_popped_and_removed",
}

NOT_READ: Table = {
    name: f"{ATTRIBUTES}an_attribute_that_there_is_none_of_says_why[{name}]"
    for name in trainer_names.UNSUPPORTED_ATTRIBUTES
}

_MEMBER = f"{ATTRIBUTES}a_member_of_the_arguments_is_that_of_the_reference"
_COMPUTED = f"{ATTRIBUTES}what_members_of_the_arguments_compute_is_that_of_the_reference"
_WRITTEN = f"{ATTRIBUTES}the_arguments_written_down_have_all_of_the_reference_s"
_SETTER = f"{ATTRIBUTES}a_setter_has_the_effect_that_it_has_there"
MEMBERS: Table = {
    "device": f"{_MEMBER}[device]",
    "n_gpu": f"{_MEMBER}[n_gpu]",
    "world_size": f"{_MEMBER}[world_size]",
    "process_index": f"{_MEMBER}[process_index]",
    "local_process_index": f"{_MEMBER}[local_process_index]",
    "parallel_mode": f"{_MEMBER}[parallel_mode]",
    "train_batch_size": f"{_MEMBER}[train_batch_size]",
    "eval_batch_size": f"{_MEMBER}[eval_batch_size]",
    "should_log": f"{_MEMBER}[should_log]",
    "should_save": f"{_MEMBER}[should_save]",
    "place_model_on_device": (
        f"{ATTRIBUTES}a_subclass_of_the_arguments_says_where_the_model_is_placed"
    ),
    "get_process_log_level": _COMPUTED,
    "main_process_first": _COMPUTED,
    "get_warmup_steps": _COMPUTED,
    "to_dict": _WRITTEN,
    "to_json_string": _WRITTEN,
    "to_sanitized_dict": _WRITTEN,
    "set_training": f"{_SETTER}[set_training]",
    "set_evaluate": f"{_SETTER}[set_evaluate]",
    "set_testing": f"{_SETTER}[set_testing]",
    "set_save": f"{_SETTER}[set_save]",
    "set_logging": f"{_SETTER}[set_logging]",
    "set_optimizer": f"{_SETTER}[set_optimizer]",
    "set_lr_scheduler": f"{_SETTER}[set_lr_scheduler]",
    "set_dataloader": f"{_SETTER}[set_dataloader]",
    "set_push_to_hub": f"{ATTRIBUTES}the_ninth_setter_is_that_of_the_hub",
    "ddp_timeout_delta": "tests/schemas/test_argument_methods.py::"
    "test_a_property_is_that_of_the_reference",
}

IMPORTED: Table = {
    "Trainer": f"{IMPORTS}it_takes_what_it_takes_there_in_the_same_order[Trainer]",
    "TrainingArguments": f"{IMPORTS}a_name_is_of_the_kind_that_it_is_there[TrainingArguments]",
    "TrainerCallback": f"{IMPORTS}a_callback_has_the_hooks_of_the_reference[TrainerCallback]",
    "TrainerState": "tests/schemas/test_trainer_state.py::"
    "test_the_fields_and_defaults_are_those_of_the_reference",
    "TrainerControl": f"{BESIDE}votes.py::test_acted_on",
    "DefaultFlowCallback": f"{LOGS}the_display_is_that_of_the_reference",
    "PrinterCallback": f"{LOGS}the_printer_prints_the_figures_of_the_reference_but_rates",
    "ProgressCallback": f"{LOGS}the_display_is_that_of_the_reference",
    "EarlyStoppingCallback": f"{BESIDE}best_model.py::test_early_stopping",
    **dict.fromkeys(TRACKERS, f"{IMPORTS}a_tracker_s_callback_is_in_integrations_too"),
    "EvalPrediction": f"{TRAINER}predictions.py::"
    "test_an_eval_prediction_unpacks_and_indexes_like_the_references",
    "PredictionOutput": f"{TRAINER}predictions.py::"
    "test_the_named_tuples_have_the_references_fields[PredictionOutput]",
    "EvalLoopOutput": f"{TRAINER}predictions.py::"
    "test_the_named_tuples_have_the_references_fields[EvalLoopOutput]",
    "TrainOutput": f"{TRAINER}predictions.py::"
    "test_the_named_tuples_have_the_references_fields[TrainOutput]",
    "IntervalStrategy": f"{IMPORTS}an_enum_has_the_values_of_the_reference_that_are_obeyed",
    "SaveStrategy": f"{IMPORTS}an_enum_has_the_values_of_the_reference_that_are_obeyed",
    "SchedulerType": f"{IMPORTS}an_enum_has_the_values_of_the_reference_that_are_obeyed",
    "get_scheduler": f"{TRAINER}schedules_beside.py::test_learning_rates_are_the_reference_s",
    "get_last_checkpoint": f"{IMPORTS}the_last_checkpoint_is_found_as_there",
    "set_seed": f"{IMPORTS}seeds_are_the_reference_s[set_seed]",
    "enable_full_determinism": f"{IMPORTS}seeds_are_the_reference_s[enable_full_determinism]",
    "default_data_collator": f"{TRAINER}collators.py::test_a_batch_is_the_reference_s",
    "DefaultDataCollator": f"{TRAINER}collators.py::test_a_batch_is_the_reference_s",
}

ON_PURPOSE: Table = {
    "one process": (
        f"{TRAINER}trainer_bad_input.py::test_several_ranks_are_refused_before_anything_is_written"
    ),
    "first GPU, no DataParallel": (
        "tests/schemas/test_argument_follow.py::test_one_process_answers_for_all"
    ),
    "signals": (
        f"{TRAINER}trainer_signals.py::"
        "test_the_first_signal_saves_the_present_step_and_what_follows_train_does_not_run"
    ),
    "votes lost by the reference are kept": (
        f"{TRAINER}trainer_callbacks.py::test_no_vote_is_lost_wherever_it_is_cast"
    ),
    "NaN is reported, not smoothed": "tests/engine/test_log_contents.py::test_nan_is_reported",
    "checkpoint folder": (
        f"{EVALUATION}a_checkpoint_of_the_model_only_has_the_files_of_the_reference"
    ),
    "a subscriber's error never ends the run": (
        "tests/engine/test_failed_runs.py::"
        "test_a_subscriber_that_fails_or_raises_does_not_fail_the_run"
    ),
    "every other name": f"{IMPORTS}a_name_that_stays_there_is_answered_with_where_it_stays",
    "training with generation": f"{IMPORTS}training_with_generation_is_refused_with_the_bridge",
    "searches": f"{METHODS}searches_are_refused",
    "optim, schedule and sampling that are not obeyed": (
        f"{REFUSED}a_value_that_is_not_obeyed_is_refused_with_what_to_do"
    ),
}
"""Of the differences, all but the trackers in the sidecar, which is not built yet."""

TABLES: dict[str, Table] = {
    "arguments": ARGUMENTS,
    "refused arguments": REFUSED_ARGUMENTS,
    "former arguments": FORMER_ARGUMENTS,
    "constructor": CONSTRUCTED,
    "called": CALLED,
    "overridden": OVERRIDDEN,
    "never called": NEVER_CALLED,
    "read": READ,
    "not read": NOT_READ,
    "members of the arguments": MEMBERS,
    "imported": IMPORTED,
    "on purpose": ON_PURPOSE,
}
