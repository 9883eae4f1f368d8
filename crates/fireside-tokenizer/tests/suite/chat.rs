//! Chat templates render as transformers renders them, and a bad template is an error and not a hang.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fireside_tokenizer::{ChatInput, ChatTemplate, ClockTime, Error};
use serde_json::{Map, Value, json};

const CHAT: &str = include_str!("../fixtures/chat.json");
const TEMPLATES: &str = include_str!("../fixtures/templates.json");

fn no_variables() -> [(&'static str, &'static str); 0] {
    []
}

fn compile(source: &str) -> Result<ChatTemplate, Error> {
    ChatTemplate::new(source, no_variables())
}

fn render(source: &str, messages: &[Value]) -> Result<String, Error> {
    compile(source)?.render(&ChatInput::new(messages))
}

#[test]
fn prompts_are_those_of_transformers() {
    let fixture: Value = serde_json::from_str(CHAT).unwrap();
    let now = ClockTime {
        unix_seconds: fixture["unix_seconds"].as_i64().unwrap(),
        utc_offset_seconds: 0,
    };
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() > 25);
    for case in cases {
        let name = case["template"].as_str().unwrap();
        let label = format!("{name}/{}", case["chat"].as_str().unwrap());
        let source = fixture["templates"][name].as_str().unwrap();
        let template =
            ChatTemplate::new(source, [("bos_token", "<s>"), ("eos_token", "</s>")]).unwrap();
        let template = template.with_clock(Arc::new(move || now)).unwrap();
        let known = [
            "template",
            "chat",
            "messages",
            "tools",
            "add_generation_prompt",
            "prompt",
            "raised",
        ];
        let input = ChatInput {
            messages: case["messages"].as_array().unwrap(),
            tools: case["tools"].as_array().map(Vec::as_slice),
            documents: None,
            add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap(),
            extra: case
                .as_object()
                .unwrap()
                .iter()
                .filter(|(key, _)| !known.contains(&key.as_str()))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        };
        match (template.render(&input), case["raised"].as_str()) {
            (Ok(prompt), None) => assert_eq!(prompt, case["prompt"].as_str().unwrap(), "{label}"),
            (Err(Error::TemplateRaised { message }), Some(raised)) => {
                assert_eq!(message, raised, "{label}")
            }
            (result, raised) => panic!("{label}: {result:?}, expected raised: {raised:?}"),
        }
    }
}

#[test]
fn published_templates_give_the_prompts_of_transformers() {
    let fixture: Value = serde_json::from_str(TEMPLATES).unwrap();
    let now = ClockTime {
        unix_seconds: fixture["unix_seconds"].as_i64().unwrap(),
        utc_offset_seconds: 0,
    };
    let families = fixture["families"].as_object().unwrap();
    assert!(families.len() > 20);
    let mut wrong = Vec::new();
    for (family, entry) in families {
        let source = entry["template"].as_str().unwrap();
        let template =
            ChatTemplate::new(source, [("bos_token", "<s>"), ("eos_token", "</s>")]).unwrap();
        let template = template.with_clock(Arc::new(move || now)).unwrap();
        for (chat, expected) in entry["prompts"].as_object().unwrap() {
            let mut extra = fixture["chats"][chat].as_object().unwrap().clone();
            let messages = extra.remove("messages").unwrap();
            let tools = extra.remove("tools");
            let generation = extra.remove("add_generation_prompt").unwrap();
            let input = ChatInput {
                messages: messages.as_array().unwrap(),
                tools: tools.as_ref().and_then(Value::as_array).map(Vec::as_slice),
                documents: None,
                add_generation_prompt: generation.as_bool().unwrap(),
                extra,
            };
            let ours = match template.render(&input) {
                Ok(prompt) => json!(prompt),
                Err(Error::TemplateRaised { message }) => json!({"raised": message}),
                Err(error) => json!({"error": error.to_string()}),
            };
            if ours != *expected {
                wrong.push(format!(
                    "{family}/{chat}\n  ours   {ours}\n  theirs {expected}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_model_without_a_template_says_how_to_proceed() {
    let error = ChatTemplate::from_model(None, no_variables()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the model has no chat template; give one, or pass the prompt as plain text to complete"
    );
    assert!(ChatTemplate::from_model(Some("x"), no_variables()).is_ok());
}

#[test]
fn a_broken_template_is_reported_at_load_with_its_line() {
    for (source, line, word) in [
        ("{{ a", 1, "syntax error"),
        ("a\nb\n{% if %}", 3, "syntax error"),
        ("a\n{% for x in y %}", 2, "syntax error"),
        ("a\n{% generation %}\n{% endif %}", 3, "syntax error"),
        ("\n{{ messages | no_such_filter }}", 2, "unknown filter"),
        ("\n\n{{ no_such_function() }}", 3, "unknown function"),
        ("{{ 1 is no_such_test }}", 1, "unknown test"),
    ] {
        match compile(source).unwrap_err() {
            Error::TemplateSyntax {
                line: found,
                reason,
            } => {
                assert_eq!(found, line, "{source:?}: {reason}");
                assert!(
                    reason.contains(word) && !reason.contains('\n'),
                    "{source:?}: {reason}"
                );
            }
            error => panic!("{source:?}: {error:?}"),
        }
    }
}

#[test]
fn a_template_that_fails_on_a_message_says_where() {
    let source = "{% for m in messages %}\n{{ m.missing.field }}\n{% endfor %}";
    let error = render(source, &[json!({"role": "user", "content": "x"})]).unwrap_err();
    assert!(
        matches!(error, Error::TemplateRender { line: 2, .. }),
        "{error:?}"
    );
    let message = error.to_string();
    assert!(
        message.starts_with("chat template, line 2: ") && !message.contains('\n'),
        "{message}"
    );
}

#[test]
fn a_raised_message_passes_through_from_anywhere() {
    let messages = [json!({"role": "user", "content": "x"})];
    for source in [
        "{{ raise_exception('no “such”\nthing') }}",
        "{% macro m() %}{{ raise_exception('no “such”\nthing') }}{% endmacro %}{{ m() }}",
        "{% if messages[0].content == 'x' %}{% set y = raise_exception('no “such”\nthing') %}{% endif %}",
    ] {
        assert_eq!(
            render(source, &messages).unwrap_err(),
            Error::TemplateRaised {
                message: "no “such”\nthing".into()
            }
        );
    }
}

#[test]
fn lists_of_text_are_joined_for_a_template_that_knows_only_strings() {
    let source = "{% for m in messages %}[{{ m['role'] + ': ' + m['content'] }}]{% endfor %}";
    let parts = json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
    assert_eq!(
        render(source, std::slice::from_ref(&parts)).unwrap(),
        "[user: a\nb]"
    );
    // Even one that would print the list.
    let printing = "{% for m in messages %}{{ m.content }}{% endfor %}";
    assert_eq!(render(printing, &[parts]).unwrap(), "a\nb");
    let image =
        json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]});
    assert_eq!(
        render(source, &[image]).unwrap_err().to_string(),
        "message 0: content of type \"image_url\" is not supported by the chat template; it takes text only"
    );
}

#[test]
fn strings_become_lists_for_a_template_that_knows_only_lists() {
    let source =
        "{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}";
    let messages = [json!({"role": "user", "content": "ab"})];
    assert_eq!(render(source, &messages).unwrap(), "ab");
}

#[test]
fn messages_must_be_objects() {
    assert_eq!(
        render("x", &[json!({}), json!("hello")])
            .unwrap_err()
            .to_string(),
        "message 1: expected an object with role and content"
    );
    assert_eq!(render("{{ messages | length }}", &[]).unwrap(), "0");
}

#[test]
fn extra_variables_win_over_special_tokens_but_not_over_the_messages() {
    let template = ChatTemplate::new(
        "{{ bos_token }}{{ messages | length }}{{ flag }}",
        [("bos_token", "<s>")],
    )
    .unwrap();
    let mut input = ChatInput::new(&[]);
    input.extra = Map::from_iter([
        ("bos_token".to_owned(), json!("<b>")),
        ("messages".to_owned(), json!([1, 2, 3])),
        ("flag".to_owned(), json!(true)),
    ]);
    assert_eq!(template.render(&input).unwrap(), "<b>0True");
}

#[test]
fn hostile_templates_end_soon_with_an_error() {
    let long = "x".repeat(1000);
    let messages = [json!({"role": "user", "content": long})];
    for source in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{% for a in range(100000) %}{{ 'a long line of text, again and again and again' * 1000 }}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
        "{% include 'chat_template' %}",
        "{{ range(100000000) | list | tojson }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x == [ns.x] }}",
        "{{ 'a' | replace('', 'x' * 10000) | replace('', 'x' * 10000) | replace('', 'x' * 10000) }}",
        "{{ 'a'.replace('', 'x' * 10000).replace('', 'x' * 10000).replace('', 'x' * 10000) }}",
        "{{ ('x,' * 1000000).split(',') | join('y' * 1000000) }}",
        "{{ '%1000000000s' | format('x') }}",
        "{{ [1] | tojson(indent=1000000000) }}",
        "{{ 'x'.join(('y' * 100000).split('')) }}",
        "{{ 'x' | indent(1000000000) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ 2 ** 1000000000 }}",
        "{% set x %}{% for i in range(1000) %}{{ 'x' * 100000 }}{% endfor %}{% endset %}",
        "{{ [[1] * 100000000] * 100000000 }}",
        "{% set x = [[1] * 100000000] * 100000000 %}",
        "{% set ns = namespace(x=1) %}{% set ns.x = [ns] %}{{ ns }}",
        "{% set ns = namespace(x=1) %}{% set ns.x = ns %}{{ ns | string }}",
    ] {
        let start = Instant::now();
        let result =
            compile(source).and_then(|template| template.render(&ChatInput::new(&messages)));
        let took = start.elapsed();
        // Minutes or more if it were not bounded; a busy machine needs a few seconds.
        assert!(took < Duration::from_secs(30), "{source}: {took:?}");
        if let Ok(prompt) = result {
            assert!(prompt.len() < 16 << 20, "{source}: {} bytes", prompt.len());
        }
    }
}

#[test]
fn an_endless_template_is_reported_at_load() {
    let source = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    assert!(matches!(
        compile(source).unwrap_err(),
        Error::TemplateFuel { .. }
    ));
}

#[test]
fn deep_values_do_not_exhaust_the_stack() {
    let nest = "{% set ns = namespace(x=[]) %}{% for i in range(50000) %}{% set ns.x = [ns.x] %}{% endfor %}";
    for use_it in [
        "",
        "{{ ns.x }}",
        "{{ ns.x | tojson }}",
        "{{ ns.x == ns.x }}",
        "{{ ns.x | string | length }}",
    ] {
        let _ = compile(&format!("{nest}{use_it}"));
    }
}

#[test]
fn deep_source_does_not_exhaust_the_stack() {
    for (open, middle, close, count) in [
        ("(", "1", ")", 100_000),
        ("[", "1", "]", 100_000),
        ("-", "1", "", 100_000),
        ("not ", "1", "", 100_000),
        ("1+", "1", "", 50_000),
        ("1 ~ ", "1", "", 50_000),
        ("2**", "1", "", 50_000),
        ("1 if 1 else ", "1", "", 50_000),
        ("x and ", "1", "", 50_000),
        ("", "x", ".a", 50_000),
        ("", "x", "[0]", 50_000),
        ("", "x", "|upper", 50_000),
        ("", "x", " is defined", 50_000),
        ("", "x", "()", 50_000),
    ] {
        let _ = compile(&format!(
            "{{{{ {}{middle}{} }}}}",
            open.repeat(count),
            close.repeat(count)
        ));
    }
    for (open, close) in [
        ("{% if 1 %}", "{% endif %}"),
        ("{% for x in y %}", "{% endfor %}"),
        ("{% with %}", "{% endwith %}"),
        ("{% generation %}", "{% endgeneration %}"),
        ("{% if 1 %}{% elif 1 %}", "{% endif %}"),
        ("{% set x %}", "{% endset %}"),
        ("{% filter upper %}", "{% endfilter %}"),
        ("{% macro x() %}", "{% endmacro %}"),
    ] {
        let _ = compile(&format!("{}{}", open.repeat(20_000), close.repeat(20_000)));
    }
    let _ = compile(&format!(
        "{{% if 1 %}}{}{{% endif %}}",
        "{% elif 1 %}".repeat(20_000)
    ));
}

#[test]
fn many_messages_are_not_taken_for_an_endless_loop() {
    let fixture: Value = serde_json::from_str(CHAT).unwrap();
    for name in ["smollm2", "turns", "tools_xml", "parts"] {
        let source = fixture["templates"][name].as_str().unwrap();
        let template =
            ChatTemplate::new(source, [("bos_token", "<s>"), ("eos_token", "</s>")]).unwrap();
        let messages: Vec<Value> = (0..4000)
            .map(|turn| json!({"role": if turn % 2 == 0 { "user" } else { "assistant" }, "content": "short"}))
            .collect();
        let prompt = template.render(&ChatInput::new(&messages)).unwrap();
        assert!(prompt.matches("short").count() == 4000, "{name}");
    }
}
