"""What is offered for a degraded model and for a failed load, and that only what is offered can be taken."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.tabs.stories import (
    BETTER,
    DEGRADED,
    EVIL,
    FACTS,
    KNOWN,
    OTHER,
    attempt,
    degraded_status,
    failed,
    failed_status,
)
from webui.errors import (
    AppError,
    BrokenPackage,
    Cancelled,
    CorruptFile,
    DeviceOutOfMemory,
    EngineRefused,
    HostOutOfMemory,
    InvalidRequest,
    MissingPackage,
)
from webui.planning.degraded import AGAIN
from webui.planning.recovery import Better, Degraded, StepKind
from webui.pool import LoadRequest, PoolState, PoolStatus
from webui.remedies import REMEDIES
from webui.tabs.degraded import banner_html
from webui.tabs.offers import better_offers, remedies_html, retry_offers, taken


def test_a_degraded_model_offers_what_would_do_better_and_what_was_asked() -> None:
    better, again = better_offers(degraded_status())
    assert better.label == BETTER.label
    assert better.request == LoadRequest(FACTS, "xllamacpp", dict(BETTER.parameters), afresh=True)
    assert again.label == AGAIN
    assert again.request == LoadRequest(FACTS, "auto", {"gpu_layers": 28}, afresh=True)


def test_trying_again_is_offered_once_and_as_it_was_asked() -> None:
    plan = Degraded("Less.", (BETTER, Better(AGAIN, "xllamacpp", {"gpu_layers": 28})))
    assert [offer.label for offer in better_offers(degraded_status(degraded=plan))] == [BETTER.label, AGAIN]
    unknown = degraded_status(degraded=plan, asked=LoadRequest(OTHER))
    assert [offer.request.loader for offer in better_offers(unknown)] == ["xllamacpp", "xllamacpp"]


def test_a_model_with_all_it_was_asked_for_has_no_banner() -> None:
    status = degraded_status(degraded=None)
    assert better_offers(status) == []
    assert banner_html(status, place="model") == ""


def test_the_banner_says_why_and_holds_a_button_for_each_offer() -> None:
    html = banner_html(degraded_status(), place="chat", link=True)
    assert "at 28 layers" in html
    assert 'id="chat-better-0"' in html and 'id="chat-again"' in html and 'data-tab="Model"' in html
    for offer in better_offers(degraded_status()):
        assert f'data-offer="{offer.mark}"' in html
    evil = Degraded(EVIL, (replace(BETTER, label=EVIL),))
    assert "<img" not in banner_html(degraded_status(degraded=evil), place="chat")


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (DeviceOutOfMemory("No room."), ["smaller-context", "fewer-layers", "on-cpu"]),
        (HostOutOfMemory("No room."), ["smaller-context"]),
        (EngineRefused("No."), ["load-again"]),
        (CorruptFile("Cut short."), []),
        (Cancelled("Stopped."), []),
    ],
)
def test_a_failed_load_offers_what_may_help_against_its_cause(error: AppError, names: list[str]) -> None:
    rung = failed(attempt(StepKind.ASKED, parameters={"context_size": 4096, "gpu_layers": 28}), error)
    assert [offer.name for offer in retry_offers(failed_status(error, ladder=(rung,)))] == names


def test_with_less_means_half_of_what_was_tried_and_the_rest_as_asked() -> None:
    asked = LoadRequest(FACTS, "auto", {"threads": 2})
    rung = failed(attempt(StepKind.ASKED, parameters={"context_size": 4096, "gpu_layers": 28}), EngineRefused("x"))
    offers = retry_offers(failed_status(DeviceOutOfMemory("No room."), asked=asked, ladder=(rung,)))
    smaller, fewer, on_cpu = (offer.request for offer in offers)
    assert smaller == replace(asked, parameters={"threads": 2, "context_size": 2048}, afresh=True)
    assert fewer.parameters == {"threads": 2, "gpu_layers": 14}
    assert on_cpu.parameters == {"threads": 2, "gpu_layers": 0}
    assert "2,048 tokens" in offers[0].label and "14 GPU layers" in offers[1].label


def test_what_cannot_be_less_is_not_offered() -> None:
    error = DeviceOutOfMemory("No room.")
    rung = failed(attempt(StepKind.ASKED, parameters={"context_size": 512, "gpu_layers": 0}), error)
    assert retry_offers(failed_status(error, ladder=(rung,))) == []
    assert retry_offers(failed_status(error, ladder=())) == []


def test_a_failure_leads_to_the_backend_that_caused_it() -> None:
    error = MissingPackage("Not installed.")
    asked = LoadRequest(FACTS, "ctransformers")
    html = remedies_html(failed_status(error, asked=asked, ladder=()), error, place="model", loaders=KNOWN)
    assert 'data-tab="Backend" data-at="backend-card-ctransformers">Install ' in html
    assert 'data-at="model-loader">Choose another loader<' in html and 'data-tab="Diagnostics"' in html
    evil = failed_status(error, asked=LoadRequest(FACTS, EVIL), ladder=())
    html = remedies_html(evil, error, place="model", loaders={})
    assert "<img" not in html and 'data-at="backend-cards">Install<' in html


def test_the_first_backend_that_failed_like_the_whole_is_the_one_to_repair() -> None:
    error = BrokenPackage("It does not start.")
    rungs = (
        failed(attempt(StepKind.ASKED, "toy"), EngineRefused("No.")),
        failed(attempt(StepKind.NEXT_LOADER, "llama-cpp-python"), BrokenPackage("It does not start.")),
    )
    html = remedies_html(failed_status(error, ladder=rungs), error, place="model", loaders=KNOWN)
    assert 'data-at="backend-card-llama-cpp-python">Repair ' in html


@pytest.mark.parametrize("code", sorted(REMEDIES))
def test_every_remedy_the_page_can_offer_is_somewhere_on_it(code: str) -> None:
    error = AppError.from_dict({"code": code, "message": "It failed."})
    html = remedies_html(failed_status(error), error, place="model", loaders=KNOWN)
    assert "See earlier loads" in html
    assert html.count('id="') == len(set(re.findall(r'id="[^"]+"', html)))


def test_only_what_is_offered_now_can_be_taken() -> None:
    status = degraded_status()
    for offer in better_offers(status):
        assert taken(status, offer.mark) == offer.request
    mark = better_offers(status)[0].mark
    gone = [
        PoolStatus(PoolState.EMPTY),
        degraded_status(degraded=Degraded(DEGRADED.sentence, (replace(BETTER, parameters={"gpu_layers": 1}),))),
        replace(status, state=PoolState.LOADING),
        replace(status, facts=OTHER),
    ]
    for other in gone:
        with pytest.raises(InvalidRequest, match="no longer offered"):
            taken(other, mark)
    with pytest.raises(InvalidRequest):
        taken(status, "")
