"""The trigger that guards a release while a person is asked whether it may go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iotda_provider.models.json_text import PlainJson
from iotda_provider.triggers.release import WaveTrigger

if TYPE_CHECKING:
    from iotda_provider.release.release_guard import ReleaseGuard
    from iotda_provider.release.release_io import ReleaseProcedure


class OpenQuestionTrigger(WaveTrigger):
    """Looks at all devices confirmed so far, and at the answer, until there is one or a breach.

    Since Airflow 3.3 an answer resumes the task at once, without this trigger, which is cancelled.
    """

    needs = (
        *WaveTrigger.needs,
        "iotda_provider.release.open_question",
        "iotda_provider.airflow_support.questions",
    )

    def begin(self, watch: ReleaseGuard) -> tuple[PlainJson, ReleaseProcedure]:
        from iotda_provider.release.open_question import OpenQuestion, QuestionJob

        job = QuestionJob.from_json(self.job)
        return job, OpenQuestion(job, watch)
