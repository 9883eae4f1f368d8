"""Vercel's AI SDK with its provider for servers that speak OpenAI."""

from checks.node_scripts import checks_of

CHECKS = checks_of(
    "ai.mjs",
    [
        "generate_text",
        "stream_text",
        "a_conversation_goes_on",
        "errors_say_what_is_wrong",
        "an_aborted_stream_ends",
    ],
)
