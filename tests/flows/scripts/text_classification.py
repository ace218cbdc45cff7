# mypy: ignore-errors
"""Fine-tunes a small BERT on sentences about the weather: training, evaluation, prediction.

Usage: python text_classification.py OUTPUT_DIR
"""

import json
import logging
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

logger = logging.getLogger(__name__)

LABELS = ["bad", "good"]
WORDS = {
    "good": "sunny warm bright clear calm mild".split(),
    "bad": "rainy cold dark foggy stormy wet".split(),
    "": "the day was very and then it stayed until evening in our town by the sea".split(),
}


def make_sentences(count: int, seed: int) -> Dataset:
    """Sentences of different lengths, some of them mislabelled, with columns no model takes."""
    source = random.Random(seed)
    rows = []
    for index in range(count):
        label = source.randrange(2)
        words = source.choices(WORDS[""], k=source.randint(2, 9))
        words += source.choices(WORDS[LABELS[label]], k=source.randint(1, 2))
        words += source.choices(WORDS[LABELS[1 - label]], k=source.randint(0, 1))
        source.shuffle(words)
        wrong = source.random() < 0.1
        rows.append(
            {
                "idx": index,
                "sentence": " ".join(words),
                "label": 1 - label if wrong else label,
                "station": source.choice(["north", "south"]),
            }
        )
    return Dataset.from_list(rows)


def make_tokenizer() -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = special + sorted({word for group in WORDS.values() for word in group})
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
    )


def make_model(tokenizer: PreTrainedTokenizerBase) -> BertForSequenceClassification:
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )
    return BertForSequenceClassification(config)


def compute_metrics(p: EvalPrediction) -> dict[str, float]:
    logits = p.predictions[0] if isinstance(p.predictions, tuple) else p.predictions
    predicted = np.argmax(logits, axis=1)
    accuracy = float((predicted == p.label_ids).mean())
    of_good = predicted[p.label_ids == 1]
    return {"accuracy": accuracy, "recall": float((of_good == 1).mean())}


def main() -> None:
    training_args = TrainingArguments(
        output_dir=sys.argv[1],
        do_train=True,
        do_eval=True,
        do_predict=True,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        logging_steps=5,
        learning_rate=5e-3,
        weight_decay=0.01,
        warmup_steps=0.1,
        lr_scheduler_type="cosine",
        per_device_train_batch_size=8,
        per_device_eval_batch_size=16,
        gradient_accumulation_steps=2,
        num_train_epochs=12,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        greater_is_better=True,
        report_to="none",
        use_cpu=True,
        seed=11,
    )
    logging.basicConfig(
        format="%(asctime)s - %(levelname)s - %(name)s - %(message)s",
        handlers=[logging.StreamHandler(sys.stdout)],
        level=training_args.get_process_log_level(),
    )
    logger.warning("device: %s, n_gpu: %s", training_args.device, training_args.n_gpu)
    logger.info("Training/evaluation parameters %s", training_args)

    last_checkpoint = None
    if Path(training_args.output_dir).is_dir() and training_args.do_train:
        last_checkpoint = get_last_checkpoint(training_args.output_dir)
    set_seed(training_args.seed)

    raw_datasets = DatasetDict(
        train=make_sentences(150, seed=1),
        validation=make_sentences(50, seed=2),
        test=make_sentences(30, seed=3),
    )
    tokenizer = make_tokenizer()

    def preprocess(examples: dict[str, list[Any]]) -> Any:
        return tokenizer(examples["sentence"], truncation=True, max_length=16)

    with training_args.main_process_first(desc="dataset map pre-processing"):
        tokenized = raw_datasets.map(preprocess, batched=True, desc="Running tokenizer on dataset")

    trainer = Trainer(
        model=make_model(tokenizer),
        args=training_args,
        train_dataset=tokenized["train"],
        eval_dataset=tokenized["validation"],
        compute_metrics=compute_metrics,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8),
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )

    if training_args.do_train:
        train_result = trainer.train(resume_from_checkpoint=last_checkpoint)
        metrics = train_result.metrics
        metrics["train_samples"] = len(tokenized["train"])
        trainer.save_model()
        trainer.log_metrics("train", metrics)
        trainer.save_metrics("train", metrics)
        trainer.save_state()

    if training_args.do_eval:
        logger.info("*** Evaluate ***")
        metrics = trainer.evaluate(eval_dataset=tokenized["validation"])
        metrics["eval_samples"] = len(tokenized["validation"])
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)

    if training_args.do_predict:
        logger.info("*** Predict ***")
        test_dataset = tokenized["test"].remove_columns("label")
        output = trainer.predict(test_dataset, metric_key_prefix="predict")
        predictions = np.argmax(output.predictions, axis=1)
        if trainer.is_world_process_zero():
            with (Path(training_args.output_dir) / "predict_results.txt").open("w") as writer:
                writer.write("index\tprediction\tlogits\n")
                for index, item in enumerate(predictions):
                    logits = " ".join(repr(float(value)) for value in output.predictions[index])
                    writer.write(f"{index}\t{LABELS[item]}\t{logits}\n")

    # What was saved can be used without the Trainer.
    model = AutoModelForSequenceClassification.from_pretrained(training_args.output_dir)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(training_args.output_dir)
    batch = tokenizer("the day was sunny and warm", return_tensors="pt")
    print(json.dumps({"reloaded": model(**batch).logits.tolist()}))


if __name__ == "__main__":
    main()
