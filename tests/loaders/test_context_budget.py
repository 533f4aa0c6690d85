"""Sharing one KV cache: nobody gets more than there is, and nobody waits forever."""

from __future__ import annotations

import threading

from webui.loaders.context_budget import ContextBudget

NEVER = threading.Event()


def test_what_fits_runs_together() -> None:
    budget = ContextBudget(100)
    with budget.reserve(60, NEVER) as first, budget.reserve(40, NEVER) as second:
        assert first
        assert second


def test_more_than_all_is_all() -> None:
    budget = ContextBudget(100)
    with budget.reserve(1000, NEVER) as held:
        assert held
    with budget.reserve(100, NEVER) as held:
        assert held


def test_a_waiting_job_can_be_cancelled() -> None:
    budget = ContextBudget(100)
    cancelled = threading.Event()
    with budget.reserve(80, NEVER):
        threading.Timer(0.05, cancelled.set).start()
        with budget.reserve(50, cancelled) as held:
            assert not held
    with budget.reserve(100, NEVER) as held:
        assert held


def test_jobs_come_in_order_and_never_exceed_the_size() -> None:
    budget = ContextBudget(100)
    lock = threading.Lock()
    in_use = most = 0
    order: list[int] = []
    started = [threading.Event() for _ in range(6)]

    def job(index: int, tokens: int) -> None:
        nonlocal in_use, most
        started[index].set()
        with budget.reserve(tokens, NEVER):
            with lock:
                order.append(index)
                in_use += tokens
                most = max(most, in_use)
            with lock:
                in_use -= tokens

    threads = []
    with budget.reserve(100, NEVER):
        for index, tokens in enumerate((70, 90, 30, 100, 50, 50)):
            threads.append(threading.Thread(target=job, args=(index, tokens)))
            threads[-1].start()
            started[index].wait()
            while len(budget._waiting) <= index:  # in the queue before the next one asks
                threading.Event().wait(0.001)
    for thread in threads:
        thread.join(10)
    assert most <= 100
    assert order[:4] == [0, 1, 2, 3]
    assert sorted(order) == list(range(6))
