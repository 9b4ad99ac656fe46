"""What a secret costs that is registered with Airflow's masker: why only some signatures are.

The masker compiles all it knows into one regular expression, again at each new secret, and applies
it to every log line.
"""

from __future__ import annotations

import re
import secrets
import time

LINE = (
    "[2026-11-24T07:31:21.547055Z] Batch task 5c8fb0d3c1a2e45678901234 is Processing: 120 of 1000 "
    "succeeded, 7 failed, 243 waiting (request id dc04c7251a7fffb6c8209c7244d5b9a6); next look in "
    "10.0 s, the guard's time is over at 2026-11-25T07:30:00Z"
)


def milliseconds(act, times: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(times):
        act()
    return (time.perf_counter() - start) / times * 1e3


def main() -> None:
    print("registered    registering one more    redacting a line")
    for count in (10, 32, 100, 1_000, 5_000):
        # As SecretsMasker.add_mask does.
        patterns = {re.escape(secrets.token_hex(32)) for _ in range(count)}
        re.purge()
        adding = milliseconds(lambda known=patterns: re.compile("|".join(known)))
        replacer = re.compile("|".join(patterns))
        redacting = milliseconds(lambda known=replacer: known.sub("***", LINE), 50)
        print(f"{count:>10,}    {adding:>17.1f} ms    {redacting:>13.3f} ms")


if __name__ == "__main__":
    main()
