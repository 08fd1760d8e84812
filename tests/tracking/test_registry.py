import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from svhn_sweep.tracking import upload_state
from svhn_sweep.tracking.journal import Journal
from svhn_sweep.tracking.registry import ALIAS, Registered, register
from svhn_sweep.trial_status import TrialStatus

# MLflow's own: SQLAlchemy sessions that its store leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

NAME = "svhn-digits"
DIGITS = "ab" * 32
OTHER_DIGITS = "cd" * 32

Propose = Callable[..., Registered]


def new(version: str, replaced: str = "", score: str = "") -> Registered:
    """A new version of `NAME`, which takes the alias from the version `replaced`."""
    return Registered(NAME, version, is_new=True, replaced=replaced, replaced_score=score)


def stays(version: str, rival: str) -> Registered:
    """The version of `NAME` that keeps the alias."""
    return Registered(NAME, version, rival)


@pytest.fixture
def propose(client: MlflowClient, tmp_path: Path) -> Propose:
    """`propose("a run", 0.9)` records a run unless it exists, and registers its model."""

    def propose(
        run: str,
        score: float,
        digits: str = DIGITS,
        name: str = NAME,
        seeds: int = 1,
        study: str = "",
    ) -> Registered:
        folder = tmp_path / run
        if not folder.exists():
            with Journal(folder) as journal:
                journal.start(name=run, experiment="svhn", store="", tags={})
                (folder / "model").mkdir()
                (folder / "model" / "MLmodel").write_text(f"flavors: {{}}\n# {run}")
                journal.log_model("model")
                journal.end(TrialStatus.complete)
        return register(
            name,
            folder,
            score,
            {"data.sha256": digits, "study": study or run, "seeds": str(seeds)},
            f"{score:.0%} on validation",
        )

    return propose


def run_id(tmp_path: Path, run: str) -> str:
    sent = upload_state.load(tmp_path / run)
    assert sent is not None
    return sent["run_id"]


def champion(client: MlflowClient, name: str = NAME) -> ModelVersion:
    return client.get_model_version_by_alias(name, ALIAS)


def versions(client: MlflowClient, name: str = NAME) -> list[str]:
    return sorted(
        str(version.version) for version in client.search_model_versions(f"name='{name}'")
    )


def test_the_first_model_becomes_champion(
    client: MlflowClient, propose: Propose, tmp_path: Path
) -> None:
    assert propose("first", 0.9) == new("1")
    version = champion(client)
    assert str(version.version) == "1"
    assert version.status == "READY"
    assert version.tags == {
        "data.sha256": DIGITS,
        "study": "first",
        "validation": "0.9",
        "seeds": "1",
    }
    assert version.description == "90% on validation"
    propose("first", 0.95)  # trained on more seeds meanwhile
    assert champion(client).description == "95% on validation"


def test_the_champion_is_the_model_of_its_run(
    client: MlflowClient, propose: Propose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run, score in (("first", 0.9), ("second", 0.95), ("third", 0.92)):
        propose(run, score)
    version = champion(client)
    assert version.run_id == run_id(tmp_path, "second")
    experiment = client.get_run(version.run_id).info.experiment_id
    (model,) = client.search_logged_models([experiment], f"source_run_id = '{version.run_id}'")
    assert version.source == model.artifact_location
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    loaded = mlflow.artifacts.download_artifacts(
        f"models:/{NAME}@{ALIAS}", dst_path=str(tmp_path / "loaded")
    )
    assert (Path(loaded) / "MLmodel").read_text().endswith("# second")


@pytest.mark.parametrize(
    ("proposals", "answer", "expected_versions"),
    # run, score and digits of each proposal; the answer to the last one; all versions then
    [
        ([("a", 0.9, DIGITS)] * 2, Registered(NAME, "1"), ["1"]),
        (
            [("a", 0.9, DIGITS), ("b", 0.91, DIGITS)],
            new("2", "1", "90.00% on validation of the same digits"),
            ["1", "2"],
        ),
        (
            [("a", 0.9, DIGITS), ("b", 0.89, DIGITS)],
            stays("1", "had 90.00% on validation of the same digits"),
            ["1"],
        ),
        (
            [("a", 0.9, DIGITS), ("b", 0.9, DIGITS)],
            stays("1", "had 90.00% on validation of the same digits"),
            ["1"],
        ),
        (
            [("a", 0.9, DIGITS), ("b", 0.2, OTHER_DIGITS)],
            new("2", "1", "90.00% on validation of other digits"),
            ["1", "2"],
        ),
        (
            [("a", 0.9, DIGITS), ("b", 0.91, DIGITS), ("a", 0.9, DIGITS)],
            stays("2", "had 91.00% on validation of the same digits"),
            ["1", "2"],
        ),
        (
            [("a", 0.9, DIGITS), ("b", 0.2, OTHER_DIGITS), ("a", 0.9, DIGITS)],
            Registered(
                NAME, "1", replaced="2", replaced_score="20.00% on validation of other digits"
            ),
            ["1", "2"],
        ),
        (
            [("a", 0.9, DIGITS), ("b", 0.8, DIGITS), ("c", 0.85, DIGITS)],
            stays("1", "had 90.00% on validation of the same digits"),
            ["1"],
        ),
        (
            [("a", 0.1, DIGITS), ("b", 1e-05, DIGITS), ("c", 1.0, DIGITS)],
            new("2", "1", "10.00% on validation of the same digits"),
            ["1", "2"],
        ),
    ],
)
def test_the_better_model_on_the_same_digits_is_champion(
    client: MlflowClient,
    propose: Propose,
    tmp_path: Path,
    proposals: list[tuple[str, float, str]],
    answer: Registered,
    expected_versions: list[str],
) -> None:
    *_, last = (propose(*proposal) for proposal in proposals)
    assert last == answer
    assert versions(client) == expected_versions
    assert str(champion(client).version) == answer.version
    assert (champion(client).run_id == run_id(tmp_path, proposals[-1][0])) is not bool(answer.rival)


def test_models_of_different_names_are_not_compared(client: MlflowClient, propose: Propose) -> None:
    propose("real", 0.9)
    assert propose("synthetic", 0.5, name=f"{NAME}-synthetic").version == "1"
    assert versions(client) == versions(client, f"{NAME}-synthetic") == ["1"]


def test_without_an_alias_the_next_model_becomes_champion(
    client: MlflowClient, propose: Propose
) -> None:
    propose("first", 0.9)
    client.delete_registered_model_alias(NAME, ALIAS)
    assert propose("second", 0.8) == new("2")


def test_a_champion_that_the_user_chose_himself_may_be_replaced(
    client: MlflowClient, propose: Propose, tmp_path: Path
) -> None:
    propose("first", 0.9)
    client.create_model_version(NAME, champion(client).source)
    client.set_registered_model_alias(NAME, ALIAS, "2")
    assert propose("second", 0.1) == new("3", "2")


def test_a_champion_whose_accuracy_the_user_edited_is_replaced_without_it(
    client: MlflowClient, propose: Propose
) -> None:
    propose("first", 0.9)
    client.set_model_version_tag(NAME, "1", "validation", "good")
    assert propose("second", 0.1, OTHER_DIGITS) == new("2", "1")


@pytest.mark.parametrize(
    "name", ["create_registered_model", "create_model_version", "set_registered_model_alias"]
)
@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("rivals", [False, True])
def test_a_registration_that_failed_at_any_call_can_be_repeated(
    client: MlflowClient,
    propose: Propose,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    answered: bool,
    rivals: bool,
) -> None:
    """`answered`: the store carried out the request, and only its answer was lost."""
    if rivals:
        propose("old", 0.8)
    real = getattr(MlflowClient, name)

    def fails(self: MlflowClient, *arguments: object, **options: object) -> None:
        monkeypatch.setattr(MlflowClient, name, real)
        if answered:
            with suppress(MlflowException):  # the registered model exists
                real(self, *arguments, **options)
        raise ConnectionError("lost")

    monkeypatch.setattr(MlflowClient, name, fails)
    with pytest.raises(ConnectionError, match="lost"):
        propose("new", 0.9)
    expected = "2" if rivals else "1"
    assert propose("new", 0.9).version == expected
    assert versions(client) == ["1", "2"][: int(expected)]
    assert champion(client).tags["validation"] == "0.9"


def test_a_champion_that_is_proposed_again_has_its_new_score(
    client: MlflowClient, propose: Propose
) -> None:
    propose("first", 0.9)
    propose("first", 0.8)
    assert champion(client).tags["validation"] == "0.8"
    assert not propose("second", 0.85).rival
    assert versions(client) == ["1", "2"]


@pytest.mark.parametrize(
    ("seeds", "digits", "rival"),
    [
        ((5, 1), DIGITS, "has more seeds behind it, 5"),
        ((1, 5), DIGITS, ""),
        ((5, 5), DIGITS, ""),
        ((5, 1), OTHER_DIGITS, ""),
    ],
)
def test_fewer_seeds_do_not_replace_more(
    client: MlflowClient, propose: Propose, seeds: tuple[int, int], digits: str, rival: str
) -> None:
    propose("first", 0.9, seeds=seeds[0])
    assert propose("second", 0.95, digits=digits, seeds=seeds[1]).rival == rival


@pytest.mark.parametrize("score", [0.8, 0.95])
def test_a_newer_result_of_the_same_study_replaces_the_champion(
    client: MlflowClient, propose: Propose, score: float
) -> None:
    propose("its baseline", 0.9, study="model2-abc")
    assert propose("its best", score, seeds=5, study="model2-abc").version == "2"


def test_a_champion_for_the_second_time_has_its_new_score(
    client: MlflowClient, propose: Propose
) -> None:
    propose("first", 0.8, seeds=5)
    propose("second", 0.9, seeds=5)
    assert propose("first", 0.95, seeds=6).version == "1"
    assert (champion(client).tags["validation"], champion(client).tags["seeds"]) == ("0.95", "6")


def test_a_database_that_was_replaced_gets_run_and_model(
    client: MlflowClient, propose: Propose, tmp_path: Path, new_store: Path
) -> None:
    propose("first", 0.9)
    shutil.copy(new_store, tmp_path)
    assert propose("first", 0.9) == new("1")


def test_the_model_of_a_deleted_run_is_not_registered(
    client: MlflowClient, propose: Propose, tmp_path: Path
) -> None:
    propose("first", 0.9)
    propose("second", 0.8)
    client.delete_run(run_id(tmp_path, "second"))
    with pytest.raises(LookupError, match="second was deleted in MLflow"):
        propose("second", 0.95)


def test_mlflows_global_tracking_uri_is_ignored(
    client: MlflowClient, propose: Propose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/other.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # which it sets as well
    try:
        assert not propose("first", 0.9).rival
    finally:
        mlflow.set_tracking_uri(None)


@pytest.mark.parametrize(
    ("registered", "sentence"),
    [
        (new("1"), "registered as svhn-digits version 1, alias champion"),
        (Registered(NAME, "1"), "already registered as svhn-digits version 1, alias champion"),
        (
            stays("1", "had 90.00% on validation of the same digits"),
            "the champion of svhn-digits stays version 1: it had 90.00% on validation of the same "
            "digits",
        ),
        (
            new("3", "2"),
            "registered as svhn-digits version 3, alias champion; version 2 had the alias until "
            "now: `python -m svhn_sweep predict --model models:/svhn-digits/2 IMAGE` uses it",
        ),
        (
            new("3", "2", "90.00% on validation of other digits"),
            "registered as svhn-digits version 3, alias champion; version 2 had the alias until "
            "now, with 90.00% on validation of other digits: "
            "`python -m svhn_sweep predict --model models:/svhn-digits/2 IMAGE` uses it",
        ),
    ],
)
def test_the_sentence_names_the_version_that_lost_the_alias(
    registered: Registered, sentence: str
) -> None:
    assert registered.sentence() == sentence
