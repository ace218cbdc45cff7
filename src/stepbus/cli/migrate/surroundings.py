"""What a script does beside the trainer that matters to it: trackers, ranks, signals, files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from .bindings import Bindings
from .findings import Findings

TRACKER_CALLS: dict[str, frozenset[str]] = {
    "aim": frozenset({"Run"}),
    "clearml": frozenset({"init"}),
    "codecarbon": frozenset({"EmissionsTracker", "OfflineEmissionsTracker"}),
    "comet_ml": frozenset(
        {"Experiment", "OfflineExperiment", "ExistingExperiment", "init", "start", "login"}
    ),
    "dagshub": frozenset({"init"}),
    "dvclive": frozenset({"Live"}),
    "mlflow": frozenset(
        """
        autolog end_run log_artifact log_artifacts log_dict log_figure log_metric log_metrics
        log_param log_params log_text set_experiment set_tag set_tags set_tracking_uri start_run
        """.split()
    ),
    "neptune": frozenset({"init", "init_run"}),
    "swanlab": frozenset({"finish", "init", "log", "login"}),
    "tensorboardX": frozenset({"SummaryWriter"}),
    "torch.utils.tensorboard": frozenset({"SummaryWriter"}),
    "trackio": frozenset({"finish", "init", "log"}),
    "wandb": frozenset(
        "Artifact alert finish init log log_artifact login save use_artifact watch".split()
    ),
}
"""Calls of the trackers' own modules."""

PLAIN_CALLS = frozenset({"login", "set_tracking_uri", "set_experiment", "Artifact"})
"""Those that open no run."""

_IN_PROCESS = (
    "a run that the script opens lives in the training process: reporting to {tracker} then runs "
    "in a thread there, not in a process of its own"
)
_PLAIN = "it opens no run: nothing changes"
_RANKS = "several ranks are refused: stepbus trains in one process on one device"
_RANK_VARIABLES = frozenset({"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"})
_ONE_RANK = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
_RANK_CALLS = (
    "accelerate.Accelerator",
    "accelerate.PartialState",
    "accelerate.notebook_launcher",
    "accelerate.state.",
    "deepspeed.",
    "torch.distributed.",
    "torch.multiprocessing.spawn",
    "torch.nn.parallel.DistributedDataParallel",
    "torch_xla.",
)
_HARMLESS = ("torch.distributed.is_available", "torch.distributed.is_initialized")
_LAUNCHER = re.compile(
    r"\b(torchrun|accelerate\s+launch|deepspeed|torch\.distributed\.(run|launch))\b"
)
_PARALLEL = ("torch.nn.DataParallel", "torch.nn.parallel.DataParallel")
_STATES = "train(resume_from_checkpoint=...) reads its states"
_FILES = {
    "optimizer.pt": f"a checkpoint of stepbus has no optimizer.pt: {_STATES}",
    "scheduler.pt": f"a checkpoint of stepbus has no scheduler.pt: {_STATES}",
    "training_args.bin": "stepbus writes the arguments as JSON, not as training_args.bin",
    "pytorch_model.bin": "weights are written as model.safetensors",
}


def check_surroundings(
    tree: ast.AST, magics: Iterable[tuple[int, str]], names: Bindings, found: Findings
) -> None:
    """Adds trackers' own calls, several ranks, signal handlers and files of checkpoints."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            _check_call(node, names, found)
        elif isinstance(node, ast.Subscript):
            _check_environ(node, names, found)
        elif isinstance(node, ast.ExceptHandler):
            _check_interrupt(node, found)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            _check_file(node, found)
        elif isinstance(node, ast.Assign):
            _check_one_rank(node, names, found)
    for line, text in magics:
        _check_launcher(line, text, found)


def _check_launcher(line: int, command: str, found: Findings) -> None:
    launcher = _LAUNCHER.search(command)
    if launcher:
        found.refused(line, "ranks", launcher[0], f"{_RANKS}: start it with python")


def _words_of(node: ast.Call) -> str:
    """The literal texts of a call, in order."""
    texts = (inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant))
    return " ".join(text for text in texts if isinstance(text, str))


def _check_call(node: ast.Call, names: Bindings, found: Findings) -> None:
    origin = names.origin(node.func)
    if not origin:
        return
    _check_tracker(node, origin, found)
    if origin in _PARALLEL:
        text = "stepbus trains on the first device and knows no DataParallel: give the bare model"
        found.differs(node.lineno, "ranks", "DataParallel", text)
    elif origin == "signal.signal":
        text = (
            "during train() the first SIGINT or SIGTERM saves and stops; a handler that was there "
            "before is called after it and put back at the end"
        )
        found.differs(node.lineno, "signal", "signal.signal", text)
    elif origin in ("os.getenv", "os.environ.get", "os.environ.setdefault"):
        name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
        if name in _RANK_VARIABLES and not origin.endswith("setdefault"):
            found.refused(node.lineno, "ranks", str(name), _RANKS)
    elif origin.startswith("subprocess.") or origin == "os.system":
        _check_launcher(node.lineno, _words_of(node), found)
    elif origin.startswith(_RANK_CALLS) and origin not in _HARMLESS:
        found.refused(node.lineno, "ranks", origin, _RANKS)


def _check_tracker(node: ast.Call, origin: str, found: Findings) -> None:
    root = origin.partition(".")[0]
    module = "torch.utils.tensorboard" if origin.startswith("torch.utils.tensorboard.") else root
    call = origin.rpartition(".")[2]
    if call not in TRACKER_CALLS.get(module, ()):
        return
    tracker = "TensorBoard" if "tensorboard" in module else module
    shown = origin.removeprefix("torch.utils.tensorboard.")
    if call in PLAIN_CALLS:
        found.works(node.lineno, "tracker", shown, _PLAIN)
    else:
        found.differs(node.lineno, "tracker", shown, _IN_PROCESS.format(tracker=tracker))


def _check_environ(node: ast.Subscript, names: Bindings, found: Findings) -> None:
    name = node.slice.value if isinstance(node.slice, ast.Constant) else None
    is_read = isinstance(node.ctx, ast.Load) and names.origin(node.value) == "os.environ"
    if is_read and name in _RANK_VARIABLES:
        found.refused(node.lineno, "ranks", str(name), _RANKS)


def _check_one_rank(node: ast.Assign, names: Bindings, found: Findings) -> None:
    """Setting a variable to what one process has anyway is fine."""
    for target in node.targets:
        if not isinstance(target, ast.Subscript) or names.origin(target.value) != "os.environ":
            continue
        name = target.slice.value if isinstance(target.slice, ast.Constant) else ""
        value = node.value.value if isinstance(node.value, ast.Constant) else None
        if name in _RANK_VARIABLES and value != _ONE_RANK[str(name)]:
            found.refused(node.lineno, "ranks", str(name), _RANKS)


def _check_interrupt(node: ast.ExceptHandler, found: Findings) -> None:
    caught: list[ast.expr | None] = (
        [*node.type.elts] if isinstance(node.type, ast.Tuple) else [node.type]
    )
    if any(isinstance(one, ast.Name) and one.id == "KeyboardInterrupt" for one in caught):
        text = "a Ctrl-C during train() saves a checkpoint first and is raised after that"
        found.differs(node.lineno, "signal", "KeyboardInterrupt", text)


def _check_file(node: ast.Constant, found: Findings) -> None:
    name = str(node.value).rpartition("/")[2]
    if name in _FILES:
        found.differs(node.lineno, "checkpoint", name, _FILES[name])
