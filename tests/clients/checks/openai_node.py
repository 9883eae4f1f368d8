"""The openai package for Node."""

from checks.node_scripts import checks_of

CHECKS = checks_of(
    "openai.mjs",
    [
        "chat_streams",
        "usage_comes_where_it_is_asked_for",
        "completions_and_models",
        "errors_have_their_classes",
        "an_aborted_stream_ends",
    ],
)
