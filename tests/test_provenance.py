from svhn_sweep import provenance


def test_the_commit_is_that_of_the_checkout() -> None:
    commit = provenance.git_commit()
    assert commit is None or len(commit.removesuffix("-changed")) == 40
