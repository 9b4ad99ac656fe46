"""A question to a person in Airflow, 3.1 and later: put, read, and closed in the person's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from iotda_provider.airflow_support.supervisor import present_supervisor
from iotda_provider.models.text import one_line, what_is


def checked_users(assigned_users: Any) -> list[dict[str, str]]:
    """Who may answer, as Airflow wants them named.

    :raises ValueError: it is no list of users, or an empty one
    """
    if assigned_users is None:
        return []
    if isinstance(assigned_users, (str, bytes, Mapping)) or not isinstance(
        assigned_users, Sequence
    ):
        what = what_is(assigned_users, instead_of="a list")
        raise ValueError(f"assigned_users must be a list of user ids, got {what}")
    users = [
        {"id": user, "name": user} if isinstance(user, str) else dict(user)
        for user in assigned_users
        if isinstance(user, (str, Mapping))
    ]
    if (
        not users
        or len(users) != len(assigned_users)
        or not all(
            set(user) == {"id", "name"} and all(isinstance(v, str) and v for v in user.values())
            for user in users
        )
    ):
        # An empty list would mean everybody to Airflow.
        raise ValueError(
            "assigned_users must name at least one user, each by its id (text) or as "
            f'{{"id": "...", "name": "..."}}, got {one_line(assigned_users, 200)!r}'
        )
    return users


def put(ti_id: str, *, assigned_users: Sequence[Mapping[str, str]] = (), **question: Any) -> None:
    """Put the question of a task instance, from its worker; only once, however often it is called.

    :param ti_id: the task instance, which has one question
    :param assigned_users: who may answer, as ``{"id", "name"}``; none: whoever may at all
    :param question: ``subject``, ``body``, ``options`` (the answers) and ``defaults`` (the answer
        that silence means; None: none)
    """
    from airflow.sdk.execution_time.hitl import upsert_hitl_detail

    users: Any = [dict(user) for user in assigned_users]
    upsert_hitl_detail(
        ti_id=UUID(ti_id),
        **question,
        params={},
        **({"assigned_users": users} if users else {}),
    )


def park_in_dag_test(method_name: str, timeout: timedelta | None) -> None:
    """In ``dag.test()`` of Airflow 3.3: wait for the answer as Airflow's own questions do.

    It has no triggerer, lets no trigger read an answer, and lets people answer only a task that is
    parked. Anywhere else this does nothing.

    :param method_name: the method of the task that goes on with the answer
    :param timeout: for how long the question is open; None: for ever
    """
    try:
        from airflow.sdk.exceptions import TaskAwaitingInput
    except ImportError:  # before 3.3
        return
    if _supervisor() is not None:
        raise TaskAwaitingInput(method_name=method_name, timeout=timeout)


def read_answer(ti_id: str) -> dict[str, Any] | None:
    """The answer, ``{"option", "by"}``, from a triggerer; None: there is none yet. It blocks.

    :raises Exception: whatever Airflow raises if it can't tell
    """
    from airflow.sdk.execution_time.hitl import get_hitl_detail_content_detail

    # The supervisor of dag.test() before 3.3 passes nobody's question on; its client does.
    client: Any = getattr(_supervisor(), "client", None)
    read = get_hitl_detail_content_detail if client is None else client.hitl.get_detail_response
    found: Any = read(ti_id=UUID(ti_id))
    if not (found.response_received and found.chosen_options):
        return None
    by = getattr(found, "responded_by_user", None)
    user = None if by is None else {"id": by.id, "name": by.name}
    return answer_of({"chosen_options": found.chosen_options, "responded_by_user": user})


def answer_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """The answer in the event with which Airflow itself resumes a task: ``{"option", "by"}``."""
    chosen, by = list(event.get("chosen_options") or []), event.get("responded_by_user")
    return {"option": chosen[0] if chosen else None, "by": str(by) if by else None}


def close(ti_id: str, option: str, because: str) -> None:
    """Answer the question in the person's place, from a triggerer, unless one has. It blocks.

    :param option: the answer
    :param because: why, which is shown with the answer
    :raises Exception: whatever Airflow raises if that does not work
    """
    from airflow.sdk.execution_time.hitl import update_hitl_detail_response

    if read_answer(ti_id) is None:
        client: Any = getattr(_supervisor(), "client", None)
        update = update_hitl_detail_response if client is None else client.hitl.update_response
        update(ti_id=UUID(ti_id), chosen_options=[option], params_input={"guard": because})


def _supervisor() -> Any:
    """The supervisor of ``dag.test()``, which runs in this process; None: there is another one."""
    return getattr(present_supervisor(), "supervisor", None)
