//! The service without HTTP: tokens in, tokens out, and the same answers as the server's.

use std::time::Duration;

use lb_serve::{Finish, Heard, Manner, Refusal, Service, Tenant};
use serde_json::{Value, json};

use crate::support::{Client, LINES, config, serve, worker};

const QUESTION: &str = "Who keeps the Turin ledger?";

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn of(most: usize) -> Manner {
    let mut manner = Manner::default();
    manner.max_tokens = Some(most);
    manner
}

/// Something that takes long.
fn long() -> (Vec<u32>, Manner) {
    let prompt = worker().tokenizer().encode_prompt("The ledger of Oslo, the ledger of Turin,").unwrap();
    let mut manner = of(4000);
    (manner.temperature, manner.seed, manner.ignores_end) = (Some(1.0), Some(1), true);
    (prompt, manner)
}

/// Its tokens, and how it ended.
async fn whole(mut answer: lb_serve::Answer) -> Result<(Vec<u32>, Finish), Refusal> {
    let mut tokens = Vec::new();
    while let Some(heard) = answer.next().await {
        match heard? {
            Heard::Token(token) => tokens.push(token.id),
            Heard::Ended(finish) => {
                assert!(answer.next().await.is_none());
                return Ok((tokens, finish));
            }
            _ => {}
        }
    }
    panic!("it has no end");
}

fn messages() -> Value {
    json!([{ "role": "user", "content": QUESTION }])
}

fn text_of(client: &Client, briefing: Option<&Value>) -> (String, usize) {
    let mut request = json!({ "messages": messages(), "max_tokens": 24 });
    if let Some(briefing) = briefing {
        request["briefing"] = briefing.clone();
    }
    let told = client.post("/v1/chat/completions", &request);
    assert_eq!(told.status, 200, "{}", told.body);
    let text = told.body["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    (text, told.body["usage"]["completion_tokens"].as_u64().unwrap() as usize)
}

#[test]
fn its_tokens_are_the_servers_and_an_answer_is_gone_on_with_from_any_of_them() {
    let store = tempfile::tempdir().unwrap();
    let mut config = config();
    config.store = Some(store.path().to_str().unwrap().to_owned());
    let (server, client) = serve(config.clone());
    let id = client.trajectory(&LINES);
    let handoffs = ["full-kv", "latent-briefing:keep=0.5", "text-replay"];
    let briefings = handoffs.map(|handoff| json!({ "trajectory": id, "handoff": handoff }));
    let wanted: Vec<_> = briefings.iter().map(|briefing| text_of(&client, Some(briefing))).collect();
    let plain = text_of(&client, None);
    server.stop();
    run(async {
        // Another process of the same store, which has made none of it.
        let service = Service::start(worker(), config).await.unwrap();
        let (local, decode) =
            (Tenant::local(), |tokens: &[u32]| worker().tokenizer().decode(tokens).unwrap());
        for (briefing, (text, generated)) in briefings.iter().zip(&wanted) {
            let ask = async |manner: &Manner| {
                whole(service.ask(&local, briefing, messages(), manner).await.unwrap()).await.unwrap()
            };
            let (tokens, _) = ask(&of(24)).await;
            assert_eq!((&decode(&tokens), tokens.len()), (text, *generated), "{briefing}");
            for at in [1, tokens.len() / 2] {
                let mut rest = of(24 - at);
                rest.written = tokens[..at].to_vec();
                assert_eq!(ask(&rest).await.0, tokens[at..], "{briefing} from {at}");
            }
        }
        let conversation = [lb_model::Message::new("user", QUESTION)];
        let prompt =
            worker().encode_conversation(&conversation, &lb_model::RenderOptions::default()).unwrap();
        let (tokens, _) = whole(service.complete(&local, prompt, &of(24)).unwrap()).await.unwrap();
        assert_eq!((decode(&tokens), tokens.len()), plain);
        service.end().await;
    });
}

#[test]
fn what_ends_an_answer_is_told() {
    run(async {
        let service = Service::start(worker(), config()).await.unwrap();
        let (prompt, mut manner) = long();
        let local = Tenant::local();
        manner.max_tokens = Some(40);
        let (tokens, finish) =
            whole(service.complete(&local, prompt.clone(), &manner).unwrap()).await.unwrap();
        assert_eq!((tokens.len(), finish), (40, Finish::Length));
        let mut early = manner.clone();
        early.stop_tokens = vec![tokens[20]];
        let first = tokens.iter().position(|token| *token == tokens[20]).unwrap();
        let (some, finish) = whole(service.complete(&local, prompt.clone(), &early).unwrap()).await.unwrap();
        assert_eq!((some.as_slice(), finish), (&tokens[..first], Finish::End));
        manner.log_probs = Some(3);
        let mut answer = service.complete(&local, prompt, &manner).unwrap();
        let mut told = 0;
        while let Some(heard) = answer.next().await {
            let Heard::Token(token) = heard.unwrap() else { continue };
            assert_eq!(token.likeliest.len(), 3);
            assert!(token.log_prob.unwrap() <= token.likeliest[0].2);
            told += 1;
        }
        assert_eq!(told, 40);
        service.end().await;
    });
}

#[test]
fn a_text_that_ends_an_answer_ends_it_behind_its_tokens() {
    run(async {
        let service = Service::start(worker(), config()).await.unwrap();
        let (prompt, mut manner) = long();
        manner.max_tokens = Some(40);
        let local = Tenant::local();
        let (tokens, _) = whole(service.complete(&local, prompt.clone(), &manner).unwrap()).await.unwrap();
        let text = worker().tokenizer().decode(&tokens[10..12]).unwrap();
        manner.stop = vec![text.clone()];
        let (some, finish) = whole(service.complete(&local, prompt, &manner).unwrap()).await.unwrap();
        assert_eq!(finish, Finish::Stop(text.clone()));
        assert!(worker().tokenizer().decode(&some).unwrap().contains(&text));
        assert!(some.len() <= 12 && tokens.starts_with(&some));
        service.end().await;
    });
}

#[test]
fn who_drops_an_answer_or_calls_it_off_has_it_ended() {
    run(async {
        let service = Service::start(worker(), config()).await.unwrap();
        let (prompt, manner) = long();
        let mut one = service.complete(&Tenant::local(), prompt.clone(), &manner).unwrap();
        let mut two = service.complete(&Tenant::local(), prompt, &manner).unwrap();
        assert!(matches!(one.next().await, Some(Ok(Heard::Begun(_)))));
        assert!(matches!(two.next().await, Some(Ok(Heard::Begun(_)))));
        assert_eq!(service.under_way(), 2);
        drop(two);
        assert_eq!(service.under_way(), 1);
        one.cancel_token().cancel();
        loop {
            match one.next().await {
                Some(Ok(Heard::Token(_))) => {}
                Some(Err(Refusal::Cancelled)) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(one.next().await.is_none());
        for _ in 0..200 {
            if service.metrics().contains("latent_briefing_running 0") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(service.metrics().contains("latent_briefing_running 0"), "{}", service.metrics());
        service.end().await;
    });
}

#[test]
fn an_end_finishes_what_is_under_way_and_takes_nothing_new() {
    run(async {
        let service = Service::start(worker(), config()).await.unwrap();
        let (prompt, mut manner) = long();
        manner.max_tokens = Some(200);
        let mut answer = service.complete(&Tenant::local(), prompt.clone(), &manner).unwrap();
        assert!(matches!(answer.next().await, Some(Ok(Heard::Begun(_)))));
        service.drain();
        let refused = service.complete(&Tenant::local(), prompt, &manner);
        assert!(matches!(refused, Err(Refusal::Draining)), "{refused:?}");
        let asked = service.ask(&Tenant::local(), &json!({ "trajectory": "t" }), messages(), &manner).await;
        assert!(matches!(asked, Err(Refusal::Draining)), "{asked:?}");
        let (answered, ()) = tokio::join!(whole(answer), service.end());
        assert_eq!(answered.unwrap().0.len(), 200);
        service.end().await;
    });
}

#[test]
fn an_end_waits_no_longer_than_it_has_time() {
    run(async {
        let mut hasty = config();
        hasty.drain_time = Duration::from_millis(50);
        let service = Service::start(worker(), hasty).await.unwrap();
        let (prompt, manner) = long();
        let answer = service.complete(&Tenant::local(), prompt, &manner).unwrap();
        let (answered, ()) = tokio::join!(whole(answer), service.end());
        // Also where its prompt was still being read.
        assert!(matches!(answered, Err(Refusal::Draining | Refusal::Cancelled)), "{answered:?}");
    });
}

#[test]
fn what_is_wrong_is_named() {
    run(async {
        let service = Service::start(worker(), config()).await.unwrap();
        let local = Tenant::local();
        let refused = async |briefing: Value, messages: Value, manner: Manner| {
            service.ask(&local, &briefing, messages, &manner).await.unwrap_err()
        };
        let field = |refusal: Refusal| refusal.param().map(str::to_owned);
        let known = json!({ "trajectory": "t" });
        assert!(matches!(
            refused(known.clone(), messages(), of(4)).await,
            Refusal::Absent { what: "trajectory", .. }
        ));
        let wrong = refused(json!({ "trajectory": 3 }), messages(), of(4)).await;
        assert_eq!(field(wrong).as_deref(), Some("briefing.trajectory"));
        let wrong = refused(json!({ "trajectory": "t", "handof": "x" }), messages(), of(4)).await;
        assert!(field(wrong).is_some_and(|field| field.starts_with("briefing")));
        let wrong = refused(known.clone(), json!([{ "role": "assistant", "content": "x" }]), of(4)).await;
        assert_eq!(field(wrong).as_deref(), Some("messages[0].role"));
        let wrong = refused(known, messages(), of(0)).await;
        assert_eq!(field(wrong).as_deref(), Some("max_tokens"));
        let mut written = of(4);
        written.written = vec![1];
        let wrong = service.complete(&local, vec![1, 2], &written).unwrap_err();
        assert_eq!(field(wrong).as_deref(), Some("written"));
        let wrong = service.complete(&local, vec![1; 1 << 20], &of(4)).unwrap_err();
        assert!(matches!(wrong, Refusal::TooLong(_)), "{wrong}");
        service.end().await;
    });
}
