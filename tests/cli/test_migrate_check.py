"""`stepbus migrate --check`: what it finds in scripts as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepbus.cli.migrate.findings import Finding, Kind
from stepbus.schemas.argument_names import FORMER, FORMER_REFUSED, SUPPORTED
from stepbus.schemas.trainer_names import CONSTRUCTOR, UNSUPPORTED_ATTRIBUTES

from .migrated import (
    CLASSIFICATION,
    LANGUAGE_MODEL,
    REFUSED,
    WEIGHTED_LOSS,
    findings_of,
    names_of,
)

START = "from transformers import Trainer, TrainingArguments, TrainerCallback\n"


def bad(findings: list[Finding]) -> list[Finding]:
    return [f for f in findings if f.kind in (Kind.REFUSED, Kind.UNKNOWN, Kind.DIFFERS)]


def of_arguments(given: str, folder: Path) -> list[Finding]:
    script = f"{START}args = TrainingArguments('out', report_to='none', {given})\n"
    return [f for f in findings_of(script, folder) if f.what == "argument" and f.name != "x"]


def test_a_text_classification_works_as_it_is(tmp_path: Path) -> None:
    findings = findings_of(CLASSIFICATION, tmp_path)
    assert bad(findings) == []
    works = names_of(findings, Kind.WORKS)
    assert {"Trainer", "AutoTokenizer", "bf16", "callbacks", "trainer.log_metrics"} <= set(works)
    stays = [f.name for f in findings if f.text == "stays in transformers"]
    assert stays == [
        "AutoModelForSequenceClassification",
        "AutoTokenizer",
        "DataCollatorWithPadding",
    ]


def test_a_language_model_with_a_parser_works_and_says_what_was_not_seen(tmp_path: Path) -> None:
    findings = findings_of(LANGUAGE_MODEL, tmp_path)
    assert [f.name for f in bad(findings)] == ["HfArgumentParser"]
    assert "command line" in bad(findings)[0].text


def test_a_trainer_with_a_loss_of_its_own_works(tmp_path: Path) -> None:
    findings = findings_of(WEIGHTED_LOSS, tmp_path)
    assert bad(findings) == []
    assert names_of(findings, Kind.WORKS, "override") == ["WeightedTrainer.compute_loss"]


def test_everything_refused_is_named_with_its_line(tmp_path: Path) -> None:
    findings = findings_of(REFUSED, tmp_path)
    lines = {f.name: f.line for f in findings if f.kind is Kind.REFUSED}
    assert lines.keys() == {
        "Seq2SeqTrainer",
        "Seq2SeqTrainingArguments",
        "LOCAL_RANK",
        "torch.distributed.init_process_group",
        "accelerate.Accelerator",
        "deepspeed",
        "fsdp",
        "optim",
        "neftune_noise_alpha",
        "lr_scheduler_type",
        "report_to='neptune'",
        "adafactor",
        "Mine._inner_training_loop",
        "super()._inner_training_loop",
        "trainer.hyperparameter_search",
        "trainer.train(trial=)",
        "trainer.accelerator",
    }
    script = REFUSED.splitlines()
    assert "LOCAL_RANK" in script[lines["LOCAL_RANK"] - 1]
    assert "neftune" in script[lines["neftune_noise_alpha"] - 1]
    assert all(f.text for f in findings if f.kind is Kind.REFUSED)
    bridges = [f.text for f in findings if f.name.startswith("Seq2Seq")]
    assert all("bridge" in text for text in bridges)


def test_every_supported_argument_works_by_name(tmp_path: Path) -> None:
    names = sorted(SUPPORTED - {"report_to", "output_dir"})
    findings = of_arguments(", ".join(f"{name}=x" for name in names), tmp_path)
    found = {f.name: f.kind for f in findings}
    differs = {"logging_nan_inf_filter", "enable_jit_checkpoint"}
    for name in names:
        assert found[name] is (Kind.DIFFERS if name in differs else Kind.WORKS), name


@pytest.mark.parametrize("name", sorted(FORMER))
def test_names_of_version_4_warn(name: str, tmp_path: Path) -> None:
    (finding,) = (f for f in of_arguments(f"{name}=x", tmp_path) if f.name == name)
    assert finding.kind is Kind.WARNS
    assert "version 4" in finding.text
    assert "write nothing" not in finding.text


@pytest.mark.parametrize("name", sorted(FORMER_REFUSED))
def test_names_of_version_4_that_are_gone_are_refused(name: str, tmp_path: Path) -> None:
    (finding,) = (f for f in of_arguments(f"{name}=x", tmp_path) if f.name == name)
    assert finding.kind is Kind.REFUSED


@pytest.mark.parametrize(
    ("given", "name", "kind", "said"),
    [
        ("deepspeed=None", "deepspeed", Kind.WORKS, ""),
        ("deepspeed='ds.json'", "deepspeed", Kind.REFUSED, "shards no model"),
        ("deepspeed=x", "deepspeed", Kind.UNKNOWN, "refused unless it is the default"),
        ("push_to_hub=False", "push_to_hub", Kind.WORKS, ""),
        ("push_to_hub=True", "push_to_hub", Kind.WORKS, ""),
        ("hub_model_id='my model'", "hub_model_id", Kind.REFUSED, "letters"),
        ("skip_memory_metrics=True", "skip_memory_metrics", Kind.WORKS, ""),
        ("skip_memory_metrics=False", "skip_memory_metrics", Kind.REFUSED, "memory"),
        ("hub_strategy='every_save'", "hub_strategy", Kind.WORKS, ""),
        ("optim='sgd'", "optim", Kind.WORKS, ""),
        ("optim='paged_adamw_8bit'", "optim", Kind.REFUSED, "optimizers="),
        ("learnin_rate=1", "learnin_rate", Kind.UNKNOWN, "'learning_rate'"),
        ("max_steps='many'", "max_steps", Kind.REFUSED, "'many'"),
        ("save_safetensors=True", "save_safetensors", Kind.WARNS, "version 4"),
        ("save_safetensors=False", "save_safetensors", Kind.REFUSED, "safetensors"),
        ("logging_nan_inf_filter=False", "logging_nan_inf_filter", Kind.WORKS, ""),
        ("logging_nan_inf_filter=True", "logging_nan_inf_filter", Kind.DIFFERS, "NaN"),
        ("load_best_model_at_end=True", "TrainingArguments", Kind.REFUSED, "eval_strategy"),
    ],
)
def test_values_that_can_be_read_decide(
    given: str, name: str, kind: Kind, said: str, tmp_path: Path
) -> None:
    found = {f.name: f for f in of_arguments(given, tmp_path)}
    assert found[name].kind is kind
    assert said in found[name].text


def test_every_argument_of_the_trainer_is_known(tmp_path: Path) -> None:
    given = ", ".join(f"{name}=None" for name in sorted(CONSTRUCTOR))
    findings = findings_of(f"{START}Trainer({given}, tokenizer=None, call_backs=[])\n", tmp_path)
    assert set(names_of(findings, Kind.WORKS, "argument")) == CONSTRUCTOR
    assert names_of(findings, Kind.WARNS) == ["tokenizer"]
    (unknown,) = (f for f in findings if f.kind is Kind.UNKNOWN)
    assert unknown.name == "call_backs"
    assert "'callbacks'" in unknown.text


def test_dictionaries_of_the_same_file_are_followed(tmp_path: Path) -> None:
    script = """
from transformers import TrainingArguments
base = dict(deepspeed="a.json", report_to="none")
more = {"fsdp": "full_shard", **base}
more["push_to_hub"] = True
more.update(hub_model_id="me/it", **{})
def data(): return dict(data_seed=1, fsdp_config="f.json")
args = TrainingArguments("out", **more, **data())
other = TrainingArguments("out", **load_settings())
late = TrainingArguments("out", report_to="none")
late.neftune_noise_alpha = 5
"""
    findings = findings_of(script, tmp_path)
    refused = {
        "deepspeed",
        "fsdp",
        "fsdp_config",
        "neftune_noise_alpha",
    }
    assert set(names_of(findings, Kind.REFUSED)) == refused
    assert names_of(findings, Kind.UNKNOWN) == ["**load_settings()"]
    assert "data_seed" in names_of(findings, Kind.WORKS)


def test_no_report_to_is_a_difference(tmp_path: Path) -> None:
    findings = findings_of(f"{START}TrainingArguments('out')\n", tmp_path)
    assert names_of(findings, Kind.DIFFERS) == ["report_to"]


@pytest.mark.parametrize("name", sorted(UNSUPPORTED_ATTRIBUTES))
def test_attributes_that_are_not_here_are_refused(name: str, tmp_path: Path) -> None:
    findings = findings_of(f"{START}t = Trainer()\nprint(t.{name})\n", tmp_path)
    assert names_of(findings, Kind.REFUSED) == [f"t.{name}"]


def test_trainers_are_followed_through_annotations_attributes_and_with(tmp_path: Path) -> None:
    script = f"""
{START}
class Job:
    def __init__(self):
        self.trainer = Trainer() if True else None
    def run(self):
        self.trainer.accelerator
def go(trainer: Trainer):
    trainer.deepspeed
with Trainer() as one:
    one.init_hf_repo()
if (two := Trainer()):
    two.train()
    two.callback_handler.callbacks
    two.callback_handler.call_event()
    two.evaluat()
    two.own_thing = 1
"""
    findings = findings_of(script, tmp_path)
    assert names_of(findings, Kind.REFUSED) == [
        "self.trainer.accelerator",
        "trainer.deepspeed",
        "one.init_hf_repo",
        "two.callback_handler.call_event",
    ]
    assert names_of(findings, Kind.UNKNOWN) == ["two.evaluat"]


def test_overrides_are_called_refused_or_their_own(tmp_path: Path) -> None:
    script = """
from transformers import Trainer as HFTrainer
class Base(HFTrainer):
    is_fsdp_enabled = True
    def compute_loss(self, model, inputs, return_outputs=False): ...
    def get_train_dataloader(self): return super().get_train_dataloader()
    def _maybe_log_save_evaluate(self, *args): ...
    def prediction_loop(self, *args): ...
    def my_own(self): return self.my_own, self._wrap_model({}), self._prepare_inputs({})
class Derived(Base):
    def training_step(self, *args, **kwargs): return self.my_own()
"""
    findings = findings_of(script, tmp_path)
    assert names_of(findings, Kind.REFUSED) == [
        "Base.is_fsdp_enabled",
        "Base._maybe_log_save_evaluate",
        "Base.prediction_loop",
        "self._wrap_model",
    ]
    assert names_of(findings, Kind.DIFFERS) == ["Base.compute_loss"]
    works = names_of(findings, Kind.WORKS, "override")
    assert works == ["Base.get_train_dataloader", "Derived.training_step"]


def test_hooks_of_callbacks_are_known_or_never_called(tmp_path: Path) -> None:
    script = """
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback
class Mine(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_save = True
        return control
    def on_batch_end(self, args, state, control, **kwargs): ...
    def on_push_begin(self, args, state, control, **kwargs): ...
    def on_evaluate(self, args, state, control, tokenizer=None, **kwargs): ...
    def something_else(self): ...
class Board(TensorBoardCallback):
    def on_log(self, args, state, control, logs=None, **kwargs):
        logs["more"] = 1
        super().on_log(args, state, control, logs=logs, **kwargs)
    def setup(self, args, state, model): ...
"""
    findings = findings_of(script, tmp_path)
    assert names_of(findings, Kind.WORKS, "hook") == [
        "Mine.on_step_end",
        "Mine.on_push_begin",
        "Board.on_log",
    ]
    assert names_of(findings, Kind.UNKNOWN) == ["Mine.on_batch_end"]
    assert names_of(findings, Kind.DIFFERS) == ["Mine.on_evaluate", "Board.setup"]


def test_calls_of_a_trackers_own_module_are_pointed_at(tmp_path: Path) -> None:
    script = f"""
{START}
import clearml, comet_ml, mlflow, swanlab, trackio, wandb
from mlflow import log_metric
from torch.utils.tensorboard import SummaryWriter
wandb.login()
wandb.init(project="x")
wandb.log(dict(a=1))
with mlflow.start_run():
    log_metric("a", 1)
SummaryWriter("runs")
clearml.Task.init()
comet_ml.Experiment()
swanlab.init()
trackio.log({{}})
"""
    findings = findings_of(script, tmp_path)
    assert names_of(findings, Kind.DIFFERS, "tracker") == [
        "wandb.init",
        "wandb.log",
        "mlflow.start_run",
        "mlflow.log_metric",
        "SummaryWriter",
        "clearml.Task.init",
        "comet_ml.Experiment",
        "swanlab.init",
        "trackio.log",
    ]
    assert names_of(findings, Kind.WORKS, "tracker") == ["wandb.login"]
    assert "thread" in next(f.text for f in findings if f.name == "wandb.init")


def test_several_ranks_are_pointed_at_and_one_rank_is_not(tmp_path: Path) -> None:
    script = f"""
{START}
import os, subprocess, torch
from torch.nn.parallel import DistributedDataParallel as DDP
os.environ["RANK"] = "0"
os.environ["WORLD_SIZE"] = "1"
os.environ["MASTER_PORT"] = "9994"
torch.distributed.is_initialized()
os.environ["WORLD_SIZE"] = "2"
os.getenv("LOCAL_RANK")
torch.distributed.get_rank()
DDP(None)
subprocess.run(["torchrun", "train.py"])
torch.nn.DataParallel(None)
"""
    findings = findings_of(script, tmp_path)
    assert names_of(findings, Kind.REFUSED) == [
        "WORLD_SIZE",
        "LOCAL_RANK",
        "torch.distributed.get_rank",
        "torch.nn.parallel.DistributedDataParallel",
        "torchrun",
    ]
    assert names_of(findings, Kind.DIFFERS) == ["DataParallel"]


def test_signals_and_files_of_checkpoints_differ(tmp_path: Path) -> None:
    script = f"""
{START}
import signal
signal.signal(signal.SIGTERM, print)
try:
    torch.load("out/checkpoint-1/optimizer.pt")
except (KeyboardInterrupt, ValueError):
    torch.load(path + "training_args.bin")
"""
    findings = findings_of(script, tmp_path)
    assert sorted(names_of(findings, Kind.DIFFERS)) == [
        "KeyboardInterrupt",
        "optimizer.pt",
        "signal.signal",
        "training_args.bin",
    ]


@pytest.mark.parametrize(
    "script",
    [
        "import transformers as hf\nt = hf.Trainer()\nt.accelerator\n",
        "from transformers import trainer as tr\nt = tr.Trainer()\nt.accelerator\n",
        "import transformers.trainer\nt = transformers.trainer.Trainer()\nt.accelerator\n",
        "from transformers.trainer import Trainer as T\nt = T()\nt.accelerator\n",
        "from transformers import *\nt = Trainer()\nt.accelerator\n",
        "from stepbus import Trainer\nt = Trainer()\nt.accelerator\n",
        "from transformers import Trainer\nclass Trainer(Trainer): 0\nt = Trainer()\nt.accelerator",
        "def f():\n  from transformers import Trainer\n  t = Trainer()\n  return t.accelerator\n",
    ],
)
def test_aliases_lead_to_the_same_trainer(script: str, tmp_path: Path) -> None:
    assert names_of(findings_of(script, tmp_path), Kind.REFUSED) == ["t.accelerator"]


@pytest.mark.parametrize(
    "script",
    [
        "",
        "\ufeff",
        "x = 1",
        "from transformers import AutoModel\nimport torch.distributed as d\nd.barrier()\n",
        "from lightning import Trainer\nt = Trainer()\nt.accelerator\n",
        "from .transformers import Trainer\nt = Trainer()\nt.accelerator\n",
        "class A(B): pass\nclass B(A): pass\nB().accelerator\n",
        "pattern = '\\d'\n",
    ],
)
def test_scripts_without_the_reference_say_nothing(script: str, tmp_path: Path) -> None:
    assert findings_of(script, tmp_path) == []


def test_trainers_that_derive_from_the_references_are_refused(tmp_path: Path) -> None:
    script = """
from trl import SFTConfig, SFTTrainer
import trl
trainer = SFTTrainer(args=SFTConfig(anything=1), whatever=2)
trainer.accelerator
trl.DPOTrainer()
"""
    findings = findings_of(script, tmp_path)
    assert [f.kind for f in findings] == [Kind.REFUSED] * 3
    assert [f.name for f in findings] == ["SFTConfig", "SFTTrainer", "DPOTrainer"]
    assert all("bridge" in f.text for f in findings)


def test_strange_but_valid_code_is_read(tmp_path: Path) -> None:
    script = f"""
{START}
T = type("T", (Trainer,), {{}})
kw = {{**{{}}, **(lambda: {{}})()}}
kw = {{**kw}}
class Loop(Trainer):
    class Inner: ...
    train = property(lambda self: self)
    async def compute_loss(me, /, *a, **k): return me.state
    @staticmethod
    def alone(): ...
getattr(Trainer, "train")(*[], **{{}})
Trainer(*[1], **kw)
match Trainer():
    case Trainer(model=m): print(f"{{m!r:>{{10}}}}")
"""
    findings = findings_of(script, tmp_path)
    assert names_of(findings, Kind.REFUSED) == []
