"""Renders the classifier's model card from its measured figures."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from models.training.screen.heldout import PROBES
from models.training.screen.record import stages
from yap.screen.quality import Report
from yap.screen.reports import number

if TYPE_CHECKING:
    from models.training.screen.evaluate import Metrics, Mistake

ABOUT = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-classification
tags: [longformer, intent-classification, voice-assistant]
---

# yap-screen-demo

Says whether a user's latest line asks the assistant to look at the user's screen *now*. It is the
classifier that Yap runs when no other is configured: small enough to live in the repository, good
enough to show the whole service at work on a laptop.

| | |
|---|---|
| architecture | `{architecture}`: {layers} layers, width {width}, {heads} heads, window {window}, \
global attention on token 0 |
| parameters | {parameters:,}, stored as fp16, loaded as fp32 |
| tokenizer | {tokenizer}, {vocabulary:,} entries |
| labels | {labels} |
| input | at most {max_tokens:,} tokens, truncated on the left |

## Input

The user's earlier lines, oldest first, then the line to judge, joined by newlines. The assistant's
lines are left out. p(yes) is the softmax over the two logits; the default threshold is
{threshold}. The temperature found on validation ({temperature}) is part of the output layer.

```python
from transformers import pipeline

classify = pipeline("text-classification", model="models/yap-screen-demo")
classify("my app keeps crashing\\ncan you look at the error?")
```
"""

DATA = """\
## Data

All of it is written for this project: templates, word lists and conversations, in
`models/training/screen/`. Rows are drawn from them: a template or a line of a conversation, filled
from the word lists, behind earlier lines, with fillers, shorthand and slips of the keys.

| | families | templates | conversations | their lines | words |
|---|---:|---:|---:|---:|---:|
{splits}

- **Families.** Templates that share a phrasing are a family, of one of {classes} classes. A family
  belongs wholly to one split; which one is drawn by hash within each class. {pinned} families of
  everyday phrasings are pinned to training.
- **Words.** {word_lists} lists with {words:,} entries. A tenth of every open list is seen by
  validation and test only, 15 % by training only.
- **Conversations.** Each belongs wholly to one split, drawn by hash.
- **Near-duplicates.** A template or conversation that, without punctuation, fillers and doubled
  letters, also stands in an earlier split is dropped from the later one ({dropped_templates}
  templates). So is every drawn row of validation and test whose scripted lines were also drawn
  before, and a fourth row of the same lines.
"""

QUALITY = """\
## Quality

At the threshold {threshold}, on the CPU in fp32.

{sets}

- *As drawn*: of {drawn:,} rows of the test split, those that are no near-duplicates of training
  rows; plain requests are, so what is left is harder than what users say. *Each once*: as written,
  without noise and unrelated earlier lines. *Every line*: each after all before it.
- *Probes*: single cases and conversations written without a look at the phrasings. Everyday lines
  are the same whoever writes them, so {met:,} of the {probes:,} judged lines may have been met in
  training, without punctuation and fillers; *other probe lines* are those without them.
- *Keyword search*: a regular expression on the judged line of the held-out families.

| held-out families | the three probes |
|---|---|
| ![Precision and recall, held-out families](precision_recall.png) \
| ![Precision and recall, probes](precision_recall_probes.png) |
| ![Reliability, held-out families](reliability.png) \
| ![Reliability, probes](reliability_probes.png) |

### By class

Held-out families as drawn. The last two columns are the accuracy on each held-out template once,
and on the probes' single cases (`probe.jsonl`, `probe_lines.jsonl`).

{by_class}

![What became of the rows of each class](confusion_by_class.png)

### Speed

One text at a time, tokenizing included: p50 {p50:.1f} ms, p90 {p90:.1f} ms, p99 {p99:.1f} ms \
({texts} probe texts, median {tokens:.0f} tokens; {threads} thread, {machine}, torch {torch}).

Measured {measured_at} with the service's forward pass. On {checked} rows of every length it agrees
with the stock `transformers` one to {difference:.0e} in probability.
"""

LIMITS = """\
## Limits

- Classes of least accuracy on held-out families, as drawn:
{weakest_families}
- Classes of least accuracy on the probes' single cases:
{weakest_probes}
- Short follow-ups in long conversations ("and now?", "better?"): of {short_rows} lines of at most
  four words after ten or more others, in held-out and probe conversations, {short_yes} ask for the
  screen. It finds {short_recall} of these, at a precision of {short_precision}; over all lines of
  the same conversations, {talk_recall} at {talk_precision}. The line alone does not say it, and the
  assistant's lines, which might, are not read.
- Earlier lines cost it requests: recall on held-out families is {alone_recall} without any and
  {after_recall} with some.
- English only. Requests in other languages are labelled *no*, as the service's language gate
  answers before the classifier is asked; English with a few foreign words is judged as English.
- All of its data, the probes too, are written by the project and none by users. Measure it on lines
  of your own users before you trust the figures (`docs/screen.md`).
- False captures rarer than 1 % are dear: at a threshold that lets 1 % of the *no* rows pass, it
  finds {family_recall} of the requests of held-out families, {probe_recall} of other probe lines.
- It reads text alone: "what is this?" counts as a request because something is usually on show.
- Several screenshots at once, plans for later and talk about screenshots are *no* by definition.
- It is not meant as a safeguard. A client must ask its user before it captures anything.

## Making it again

```
{commands}
python -m models.training.screen.evaluate --model models/yap-screen-demo
```

`all-MiniLM-L6-v2` is the folder of that model from the Hugging Face Hub. Each run was on one
{device}, and the clock ended it: a faster machine takes more steps in the same minutes, and its
model differs. Data and their order are the same for the same seed.
"""

START = """\
The weights begin as those of `sentence-transformers/all-MiniLM-L6-v2` (Apache-2.0; Wang et al.,
2020): the first, middle and last of its six layers, and those of its word pieces that the data and
plain English need (`models/training/screen/pretrained.py`). What words mean comes from there; what
counts as a request is learnt here. From nothing, on the same phrasings, the same trainer reached
0.919 on held-out templates and 0.916 on the conversations of `probe_talks.jsonl`.

Other runs, F1 at the same threshold (2026-11-23, one H200). One of 6.1 minutes with a tenth of the
rate for word vectors: 0.951 on held-out templates. Six layers in three minutes: 0.979 on
`probe_lines.jsonl` and 0.953 on `probe_talks.jsonl`, for twice the time of every decision; three
layers that had those for their teacher (`--teacher`), in 3.2 minutes more: 0.941 on held-out
templates, 0.966 and 0.948 on the probes. The mean of this model's weights and those of the first of
these: 0.953, 0.973, and 0.923 on the conversations.
"""

TOKENIZERS = {
    True: "lower-cased WordPiece, cut down from BERT's",
    False: "lower-cased byte-level BPE trained for it",
}

SETS = {
    "families": "**held-out families, as drawn**",
    "templates": "held-out templates, each once",
    "talk_rows": "held-out conversations, as drawn",
    "talks": "held-out conversations, every line",
    "probe": "probe, `probe.jsonl`",
    "probe_lines": "probe, `probe_lines.jsonl`",
    "probe_talks": "probe, `probe_talks.jsonl`",
}
_WEAKEST = 4
_SHOWN_LINES = 4


def render(metrics: Metrics, training: Mapping[str, Any]) -> str:
    """The card as Markdown, from what evaluate.py measured and the record that train.py wrote."""
    parts = (
        _about(metrics, training), _data(metrics), _training(training), _quality(metrics),
        _answers(metrics), _limits(metrics, training),
    )  # fmt: skip
    return "\n".join(parts)


def _about(metrics: Metrics, training: Mapping[str, Any]) -> str:
    config = metrics.config
    return ABOUT.format(
        architecture=config["architectures"][0],
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        window=config["attention_window"][0],
        vocabulary=config["vocab_size"],
        tokenizer=TOKENIZERS[stages(training)[0]["settings"]["start"] is not None],
        labels=", ".join(f"`{index} {name}`" for index, name in config["id2label"].items()),
        parameters=metrics.parameters,
        max_tokens=metrics.max_tokens,
        threshold=metrics.threshold,
        temperature=training["temperature"],
    )


def _data(metrics: Metrics) -> str:
    data = metrics.data
    splits = "\n".join(
        f"| {name} | {part.families:,} | {part.templates:,} | {part.conversations:,} | "
        f"{part.conversation_lines:,} | {part.words:,} |"
        for name, part in data.splits.items()
    )
    return DATA.format(
        splits=splits,
        classes=data.classes,
        pinned=data.splits["train"].pinned,
        word_lists=data.word_lists,
        words=data.words,
        dropped_templates=data.dropped_templates,
    )


def _training(training: Mapping[str, Any]) -> str:
    runs = stages(training)
    start = START if runs[0]["settings"]["start"] else "It starts from nothing.\n"
    return "\n".join(("## Training\n", start, *map(_stage, runs)))


def _stage(record: Mapping[str, Any]) -> str:
    settings, log = record["settings"], record["log"]
    best = max(log, key=lambda entry: entry["accuracy"])
    short = min(log[-1]["step"], int(settings["short_phase"] * settings["steps"]))
    first = f"the first {short:,} on short rows only, " if short else ""
    return (
        f"- **`{settings['out']}`**: {log[-1]['step']:,} steps of up to "
        f"{settings['batch_rows']} rows, {first}"
        f"in the {settings['minutes']:g} minutes it was given, of "
        f"{record['rows']['train']:,} rows of {record['tokens_per_row']:.0f} tokens on average "
        f"(AdamW, cosine decay from {settings['learning_rate']}, averaged weights), with two side "
        "tasks: naming the class, and restoring masked tokens. The best of "
        f"{len(log)} validations on {record['rows']['validation']:,} rows was kept (step "
        f"{best['step']:,}, accuracy {best['accuracy']:.3f}); its temperature, "
        f"{record['temperature']}, was fitted on the same rows. {record['device']}, torch "
        f"{record['torch']}, transformers {record['transformers']}, "
        f"{record['wall_seconds']:.0f} s in all, {record['trained_at']}.\n"
    )


def _quality(metrics: Metrics) -> str:
    host, times, agreement = metrics.host, metrics.latency, metrics.agreement
    if times is None:
        raise ValueError("no text was timed; the card states the latency")
    return QUALITY.format(
        threshold=metrics.threshold,
        sets=_sets(metrics),
        drawn=metrics.drawn,
        met=_probe_rows(metrics) - metrics.unseen_probes.rows,
        probes=_probe_rows(metrics),
        by_class=_by_class(metrics),
        p50=times.p50_ms,
        p90=times.p90_ms,
        p99=times.p99_ms,
        texts=times.texts,
        tokens=times.tokens,
        threads=host.threads,
        machine=host.machine,
        torch=host.torch,
        measured_at=metrics.measured_at,
        checked=agreement.rows,
        difference=agreement.largest_difference,
    )


def _probe_rows(metrics: Metrics) -> int:
    return sum(metrics.quality[name].rows for name in PROBES)


def _sets(metrics: Metrics) -> str:
    rows = {title: metrics.quality[name] for name, title in SETS.items()}
    rows["other probe lines"] = metrics.unseen_probes
    rows["held-out families, no earlier lines"] = metrics.no_earlier_lines
    rows["held-out families, earlier lines"] = metrics.earlier_lines
    lines = [
        "| | rows | yes | accuracy | precision | recall | F1 | recall at 1 % FPR | ECE (15 bins) |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(_set(title, figures) for title, figures in rows.items()),
        _set("keyword search", metrics.keyword_search, scored=False),
    ]
    return "\n".join(lines)


def _set(title: str, figures: Report, *, scored: bool = True) -> str:
    shares = [figures.accuracy, figures.precision, figures.recall, figures.f1]
    cells = [number(share) for share in shares]
    cells += [number(figures.recall_at_1pct_fpr), number(figures.ece)] if scored else ["", ""]
    return f"| {title} | {figures.rows:,} | {figures.positives:,} | {' | '.join(cells)} |"


def _by_class(metrics: Metrics) -> str:
    templates, probes = metrics.by_class["templates"], metrics.by_class["probe_lines"]
    lines = [
        "| class | training rows | rows | right: yes | missed | right: no | false capture "
        "| accuracy | templates | probes |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, each in metrics.by_class["families"].items():
        counts = (
            metrics.trained_on.get(name, 0), each.rows, each.true_positives, each.false_negatives,
            each.true_negatives, each.false_positives,
        )  # fmt: skip
        cells = [f"{count:,}" for count in counts]
        cells.append(number(each.accuracy))
        cells += [_accuracy(others.get(name)) for others in (templates, probes)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _accuracy(figures: Report | None) -> str:
    return "" if figures is None else f"{number(figures.accuracy)} of {figures.rows}"


def _answers(metrics: Metrics) -> str:
    """Every conversation of the probe that it gets wrong."""
    lines = [
        "## Some of its answers",
        "",
        f"Every mistake on the {metrics.quality['probe'].rows} conversations of `probe.jsonl`; `/` "
        "separates the user's lines.",
        "",
        "| the user's lines | meant | p(yes) |",
        "|---|---|---:|",
        *(_answer(mistake) for mistake in metrics.mistakes),
    ]
    return "\n".join(lines) + "\n"


def _answer(mistake: Mistake) -> str:
    text = " / ".join(mistake.lines[-_SHOWN_LINES:]).replace("|", "\\|")
    text = ("... / " if len(mistake.lines) > _SHOWN_LINES else "") + text
    return f"| {text} | {'yes' if mistake.label else 'no'} | {mistake.p_yes:.2f} |"


def _limits(metrics: Metrics, training: Mapping[str, Any]) -> str:
    short, talks = metrics.short_follow_ups, metrics.conversation_lines
    return LIMITS.format(
        commands="\n".join(_command(stage["settings"]) for stage in stages(training)),
        device=training["device"],
        weakest_families=_weakest(metrics.by_class["families"]),
        weakest_probes=_weakest(metrics.by_class["probe_lines"]),
        alone_recall=number(metrics.no_earlier_lines.recall),
        after_recall=number(metrics.earlier_lines.recall),
        family_recall=number(metrics.quality["families"].recall_at_1pct_fpr),
        short_recall=number(short.recall),
        short_precision=number(short.precision),
        short_yes=f"{short.positives:,}",
        short_rows=f"{short.rows:,}",
        talk_recall=number(talks.recall),
        talk_precision=number(talks.precision),
        probe_recall=number(metrics.unseen_probes.recall_at_1pct_fpr),
    )


def _command(settings: Mapping[str, Any]) -> str:
    """The command line of one run."""
    ignored = ("width", "layers", "window", "vocabulary") if settings["resume"] else ()
    given = {
        name: value
        for name, value in settings.items()
        if name not in ignored and value is not None and (value or name == "seed")
    }
    flags = [f"--{name.replace('_', '-')} {value}" for name, value in given.items()]
    return textwrap.fill(
        f"python -m models.training.screen.train {' '.join(flags)}", 96,
        break_on_hyphens=False, break_long_words=False, subsequent_indent="    ",
    ).replace("\n", " \\\n")  # fmt: skip


def _weakest(by_class: Mapping[str, Report]) -> str:
    """The classes of least accuracy, each with its figures."""
    worst: Sequence[tuple[str, Report]] = sorted(
        by_class.items(), key=lambda item: item[1].accuracy
    )[:_WEAKEST]
    return "\n".join(
        f"  - `{name}`: accuracy {number(each.accuracy)}, precision {number(each.precision)}, "
        f"recall {number(each.recall)} ({each.rows} rows)"
        for name, each in worst
    )
