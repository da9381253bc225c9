"""The serving pods' latest answers to /status, by pod."""

from __future__ import annotations

from collections.abc import Mapping

from kmip_operator.kube.pods import PodAnswer

_UNHEARD = PodAnswer(error="not asked yet")


class Answers:
    """What each pod (by uid) of each instance said last."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], dict[str, PodAnswer]] = {}

    def heard(self, namespace: str, instance: str) -> bool:
        """Whether this instance's pods have been asked."""
        return (namespace, instance) in self._answers

    def of(self, namespace: str, instance: str) -> Mapping[str, PodAnswer]:
        """The latest answers of an instance's pods, by pod uid."""
        return self._answers.get((namespace, instance), {})

    def one(self, namespace: str, instance: str, uid: str) -> PodAnswer:
        """The latest answer of one pod; an error when it has not been asked."""
        return self.of(namespace, instance).get(uid, _UNHEARD)

    def replace(self, namespace: str, instance: str, answers: Mapping[str, PodAnswer]) -> bool:
        """Put in a whole round of answers; whether anything of meaning changed (counters do not count)."""
        before = self.of(namespace, instance)
        self._answers[(namespace, instance)] = dict(answers)
        return {uid: _meaning(answer) for uid, answer in before.items()} != {
            uid: _meaning(answer) for uid, answer in answers.items()
        }

    def forget(self, namespace: str, instance: str) -> None:
        """The instance is gone."""
        self._answers.pop((namespace, instance), None)


def _meaning(answer: PodAnswer) -> object:
    if answer.status is None:
        return answer.error
    return answer.status.model_copy(update={"objects": {}, "connections": 0, "root_key_checked_at": None})
