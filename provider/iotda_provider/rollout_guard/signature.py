"""Signs a guard's memory, to tell a guard's own notes from those that anybody may have written."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.masking.sealed import Sealed
from iotda_provider.models.text import one_line
from iotda_provider.rollout_guard.memory import Memory, newest

_log = logging.getLogger(__name__)

_FIELD = "signature"
_LABEL = b"iotda_provider: what a guard remembers"
#: Rounds of PBKDF2: an IAM password may be short, and a reader of a note could try many.
_ROUNDS = 200_000
#: Values of ``auth_type`` with a static secret. With the others it is new in each process.
_WITH_SECRET = ("aksk", "token")


class Signature:
    """Signs a guard's memory, and checks signatures.

    Whoever may edit Variables or XComs may write a memory there. Only the guard's worker and its
    triggerer have the secret of the guard's connection. A signature is an HMAC over the memory,
    which includes the batch task ids, and over the ids of the task instance. With ``auth_type``
    agency or federation there is no static secret, and nothing is signed.

    :param settings: the guard's connection; None: it is not known
    :param owner: the task instance of the guard, as ``owner_of`` returns it
    """

    def __init__(self, settings: ConnectionSettings | None, owner: Mapping[str, Any]) -> None:
        self._owner = dict(owner)
        self._secret: Sealed[str] | None = None
        if settings is not None and settings.auth_type in _WITH_SECRET and settings.password:
            self._secret = Sealed(settings.password)

    def sign(self, memory: Mapping[str, Any]) -> dict[str, Any]:
        """The memory with its signature, or without one if there is no secret.

        The first call in a process takes about 100 ms, so don't call it on an event loop.
        """
        unsigned = {name: value for name, value in memory.items() if name != _FIELD}
        signature = self._of(unsigned)
        return unsigned if signature is None else {**unsigned, _FIELD: signature}

    def is_on(self, memory: Mapping[str, Any]) -> bool:
        """Whether a guard with this secret has signed this memory for this task instance."""
        found = memory.get(_FIELD)
        if not isinstance(found, str):
            return False
        right = self._of({name: value for name, value in memory.items() if name != _FIELD})
        return right is not None and hmac.compare_digest(right.encode(), found.encode())

    def recall(
        self, *found: Any, batch_task_ids: tuple[str, ...], audit_limit: int = 500
    ) -> Memory:
        """The newest of several copies of a memory; if any is signed, the newest signed one.

        An unsigned memory can delay a stop, but never cause one (:meth:`Memory.from_json`).
        """
        copies = [copy for copy in found if isinstance(copy, Mapping)]
        signed = [copy for copy in copies if self.is_on(copy)]
        kept = newest(*(signed or copies))
        if kept and not Memory.is_readable(kept):
            _log.warning(
                "This version of the provider can't read the guard's memory (format %s). So the "
                "guard counts its devices anew, from what the platform says. It may stop later, "
                "never sooner.",
                one_line(kept.get("version"), 60),
            )
        return Memory.from_json(kept, batch_task_ids, audit_limit, is_signed=bool(signed))

    def _of(self, memory: Mapping[str, Any]) -> str | None:
        if self._secret is None:
            return None
        try:
            text = json.dumps(_canonical([self._owner, memory]), sort_keys=True)
        except (TypeError, ValueError, RecursionError):  # not JSON, so no guard has signed it
            return None
        return hmac.new(_key(self._secret.reveal()), text.encode(), "sha256").hexdigest()


def _canonical(value: Any) -> Any:
    """The value in one form: a database may return the float 1e22 as an int, a tuple as a list."""
    if isinstance(value, Mapping):
        return {str(name): _canonical(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@lru_cache(maxsize=16)
def _key(secret: str) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", secret.encode(), _LABEL, _ROUNDS)
