"""What a run says where it goes on but may be worth nothing.

A method raises an alarm by a metric whose name ends in "/alarm" and is above one half. Many are up for a moment, as in a network that is still random:
the one that stays up for `PATIENCE` logged steps is said once, with the numbers of its group, and again where it went away and came back.
"""

from collections.abc import Callable, Mapping

PATIENCE = 5
SUFFIX = "/alarm"


class Alarms:
    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._up: dict[str, int] = {}

    def update(self, step: int, scalars: Mapping[str, float]) -> None:
        """The metrics of a logged step."""
        for name, value in scalars.items():
            if not name.endswith(SUFFIX):
                continue
            self._up[name] = self._up.get(name, 0) + 1 if value > 0.5 else 0
            if self._up[name] == PATIENCE:
                group = name.removesuffix("alarm")
                others = ", ".join(
                    f"{k.removeprefix(group)} {v:.3g}" for k, v in sorted(scalars.items()) if k.startswith(group) and k != name
                )
                self._say(
                    f'warning: {name} is up at {PATIENCE} logged steps in a row, the last of them step {step} ({others}): see "Collapse" in README.md'
                )
