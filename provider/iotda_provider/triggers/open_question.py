"""The trigger that guards a release while a person is asked whether it may go on."""

from __future__ import annotations

from iotda_provider.triggers.release import WaveTrigger


class OpenQuestionTrigger(WaveTrigger):
    """Looks at all devices confirmed so far, and at the answer, until there is one or a breach.

    Since Airflow 3.3 an answer resumes the task at once, without this trigger, which is cancelled.
    """

    procedure = "iotda_provider.release.open_question.OpenQuestion"
    needs = (
        *WaveTrigger.needs,
        "iotda_provider.release.open_question",
        "iotda_provider.airflow_support.questions",
    )
