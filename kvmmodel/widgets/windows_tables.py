"""Which advice wins: for each of QEMU's options and each release, whether it costs AVIC; and the price of each way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import groupby
from typing import Any

from kvmmodel.facts import load
from kvmmodel.facts.inhibits import reason
from kvmmodel.facts.releases import kernel as release
from kvmmodel.facts.releases import series
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.svg import el, rich
from kvmmodel.widgets.windows import exits
from kvmmodel.widgets.windows_run import Options, allowed, run, set_up

# What every release runs with AVIC; each row of the table changes one thing of it, or two where one requires the other.
PLAIN = Options(synic=False, stimer="off", avic=False, vapic=False, pit="discard", x2apic=False, svm=False)
ADVICE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("`hv-synic`, `hv-stimer`", {"synic": True, "stimer": "message"}),
    ("the same, and `hv-avic`", {"synic": True, "stimer": "message", "avic": True}),
    ("`hv-vapic`", {"vapic": True}),
    ("PIT `delay`", {"pit": "delay"}),
    ("X2APIC shown", {"x2apic": True}),
    ("SVM shown", {"svm": True}),
    ("`hv-synic`, `hv-stimer`, `hv-vapic`, `hv-avic`, both shown", {"synic": True, "stimer": "message", "vapic": True,
                                                                   "avic": True, "x2apic": True, "svm": True}),
)  # fmt: skip


@cache
def against(options: Options) -> tuple[str, ...]:
    """The names of the VM's reasons once its guest is up, lowest bit first; ("QEMU",) if that refuses to start it."""
    if allowed(options)[1]:
        return ("QEMU",)
    vm, _ = set_up(options)
    found = [reason(vm.host.kernel, one) for one in vm.inhibits]
    return tuple(one.name for one in sorted(found, key=lambda one: one.bit))


def advice_table() -> Html:
    """A row for each option, on top of what every release runs with AVIC; releases that agree on all share a column."""
    columns = [
        (name, tuple(against(replace(PLAIN, kernel=name, **change)) for _, change in ADVICE)) for name in series()
    ]
    groups = [(list(found), key) for key, found in groupby(columns, key=lambda column: column[1])]
    names = [found[0][0] if len(found) == 1 else f"{found[0][0]} to {found[-1][0]}" for found, _ in groups]
    head = el("tr", *(el("th", name, scope="col") for name in ("option", *names)))
    rows = []
    for at, (words, _) in enumerate(ADVICE):
        cells = (el("td", _verdict(key[at])) for _, key in groups)
        rows.append(el("tr", el("th", rich(words), scope="row"), *cells))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-tight"))


def _verdict(found: tuple[str, ...]) -> str:
    if found == ("QEMU",):
        return "QEMU refuses"
    return rich("no: " + ", ".join(f"`{name}`" for name in found)) if found else "AVIC"


WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("`hv-synic`, `hv-stimer`, `hv-vapic`", {"synic": True, "stimer": "message", "vapic": True}),
    ("the same without `hv-vapic`", {"synic": True, "stimer": "message"}),
    ("`hv-vapic` alone", {"vapic": True}),
    ("none of them", {}),
    ("all three, and `hv-avic`", {"synic": True, "stimer": "message", "vapic": True, "avic": True}),
)


def price_table(kernel: str = "6.18") -> Html:
    """What guides advise: AVIC or not, the exits of 10 IPIs, and of 10 ticks of the clock that the guest has then."""
    rows = []
    for words, change in WAYS:
        options = replace(PLAIN, kernel=release(kernel).series, x2apic=True, **change)
        made = run(options)
        active = "on" if all(made.active) else "no: " + ", ".join(f"`{name}`" for name in against(options))
        clock = "RTC" if options.stimer == "off" else "timer"
        cells = (active, exits(made.ipis.exits), f"{exits(made.ticks.exits)}; {clock}")
        rows.append(el("tr", el("th", rich(words), scope="row"), *(el("td", rich(text)) for text in cells)))
    names = ("options", "AVIC", "exits of 10 IPIs", "exits of 10 ticks; clock")
    head = el("tr", *(el("th", name, scope="col") for name in names))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-tight"))


def relations(counts: Mapping[str, int]) -> tuple[str, ...]:
    """What counts of KVM's tracepoints say of how a guest's interrupts came and went."""
    accepted, eois, by_bit = (counts[f"kvm_{name}"] for name in ("apic_accept_irq", "eoi", "pv_eoi"))
    return (
        f"{counts['kvm_inj_virq']:,} of {accepted:,}",
        f"{eois:,} of {accepted:,}",
        f"{by_bit:,} of {eois:,}",
        f"{counts['kvm_msr']:,}",
        f"{counts['kvm_apic_ipi'] + eois - by_bit:,}",
        f"{counts['kvm_hv_synic_set_irq']:,}, {counts['kvm_hv_synic_send_eoi']:,}",
        f"{counts['kvm_pio']:,}",
    )


RELATIONS = (
    "accepted, and injected by KVM",
    "accepted, and ended by KVM",
    "ended, by the assist page's bit",
    "`kvm_msr`",
    "`kvm_apic_ipi` and EOIs without the bit",
    "the SynIC's interrupts; EOIs it heard of",
    "`kvm_pio`",
)
OF_TICKS = ("kvm_hv_synic_set_irq", "kvm_hv_synic_send_eoi", "kvm_pio")


def published_table(kernel: str = "5.10") -> Html:
    """Counts that somebody published, and the model's with the same options: do they tell the same?

    The model's are of 10 IPIs, the last two rows of 10 ticks.

    The published guest's X2APIC and SVM are hidden and its PIT discards, as the post advises.
    """
    columns = []
    for one in load("published_counts").values():
        made = run(replace(PLAIN, kernel=kernel, **one["options"]))
        traced = made.ipis.traced | Counter({name: made.ticks.traced[name] for name in OF_TICKS})
        columns += [(one["title"].replace("+", " + "), relations(one["counts"])), ("model", relations(traced))]
    head = el("tr", el("td"), *(el("th", rich(name), scope="col") for name, _ in columns))
    rows = [
        el("tr", el("th", rich(words), scope="row"), *(el("td", found[at]) for _, found in columns))
        for at, words in enumerate(RELATIONS)
    ]
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-tight"))
