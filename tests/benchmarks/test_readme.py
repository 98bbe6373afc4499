from tests.benchmarks.readme import with_section


def test_a_section_replaces_the_one_before_and_nothing_else() -> None:
    readme = "a\n<!-- speed -->\nold\n<!-- /speed -->\nb\n<!-- scale -->\nkept\n<!-- /scale -->"
    assert with_section(readme, "speed", "new\n") == readme.replace("old", "new")
