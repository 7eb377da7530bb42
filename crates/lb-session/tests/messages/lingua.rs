//! LLMLingua and LongLLMLingua against plain loops in f64.

use lb_session::Segment;
use lb_testkit::embedded;
use lb_testkit::naive_model::NaiveModel;

use super::{TASK, head_len, lines, mean, message, naive, nats, session_of, text};

/// Values nearer than this may change places.
const NEAR: f64 = 1e-3;

fn tokens(text: &str) -> Vec<u32> {
    embedded().tokenizer().encode_text(text).unwrap()
}

/// What is left of one line: `stretch` by `stretch`, the greatest values behind what was kept; with `question`, by the difference that it makes.
fn expected(
    model: &NaiveModel,
    (head, line): (&[u32], &[u32]),
    (label, rate, stretch): (usize, f64, usize),
    question: Option<&[u32]>,
) -> Vec<u32> {
    let (mut kept, mut at, mut due, mut have) = (Vec::new(), 0, 0.0, 0);
    while at < line.len() {
        let part = &line[at..line.len().min(at + stretch)];
        let mut values = nats(model, &[head, &kept].concat(), part);
        if let Some(question) = question {
            let with = nats(model, &[head, question, &kept].concat(), part);
            values.iter_mut().zip(with).for_each(|(value, with)| *value -= with);
        }
        let free: Vec<usize> =
            (0..part.len()).filter(|index| (label..line.len() - 1).contains(&(at + index))).collect();
        due += rate * free.len() as f64;
        let count = (due + 1e-6).floor() as usize - have;
        let mut ranked = free.clone();
        ranked.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
        if count > 0 && count < ranked.len() {
            let gap = values[ranked[count - 1]] - values[ranked[count]];
            assert!(gap > NEAR, "{gap} is too near to be told apart");
        }
        have += count.min(ranked.len());
        let stays =
            |index: &usize| !free.contains(index) || ranked[..count.min(ranked.len())].contains(index);
        kept.extend((0..part.len()).filter(stays).map(|index| part[index]));
        at += part.len();
    }
    kept
}

#[test]
fn tokens_are_judged_behind_what_was_kept() {
    let segment = Segment::finding(
        "Correction: the code of the Oslund relay is 5521, not 4821. The Velmar ledger is kept by Anara.",
    );
    let mut session = session_of([segment]);
    let (whole, model) = (session.snapshot().tokens().to_vec(), naive());
    let (head, line) = whole.split_at(head_len());
    let label = tokens("finding:").len();
    let body = line.len() - label - 1;
    for (room, stretch) in [(body / 2, 100), (body / 2, 12), (body / 4, 8)] {
        let size = head.len() + label + 1 + room;
        let rate = room as f64 / body as f64;
        let arguments = format!("{size}t,stretch={stretch},coarse=100");
        let wanted = expected(&model, (head, line), (label, rate, stretch), None);
        let kept = message(&mut session, &format!("llmlingua:{arguments}"), TASK);
        assert_eq!(kept[head.len()..], wanted, "{:?} for {:?}", text(&kept), text(&wanted));
        let question = tokens(&format!("{TASK}\n"));
        let wanted = expected(&model, (head, line), (label, rate, stretch), Some(&question));
        let kept = message(&mut session, &format!("longllmlingua:{arguments},spread=0"), TASK);
        assert_eq!(kept[head.len()..], wanted, "{:?} for {:?}", text(&kept), text(&wanted));
    }
}

/// One passage a line: those with the greatest perplexity are looked at, and no others.
#[test]
fn the_budget_controller_keeps_the_passages_that_say_most() {
    let mut session = session_of(lines());
    let (whole, model) = (session.snapshot().tokens().to_vec(), naive());
    let said = nats(&model, &whole[..1], &whole[1..]);
    let (mut at, mut values) = (head_len(), Vec::new());
    for segment in lines() {
        let line = tokens(&format!("{}: {}\n", segment.source.tag(), segment.text)).len();
        let label = tokens(&format!("{}:", segment.source.tag())).len();
        values.push((mean(&said[at + label - 1..at + line - 2]), segment, line));
        at += line;
    }
    values.sort_by(|a, b| b.0.total_cmp(&a.0));
    // Room for what the two first take: the second passes it.
    let room = values[0].2 + 8;
    let kept = text(&message(&mut session, &format!("llmlingua:{}t,coarse=1", head_len() + room), TASK));
    let labels = |segment: &Segment| format!("{}:", segment.source.tag());
    let mut expected: Vec<String> = values[..2].iter().map(|(_, segment, _)| labels(segment)).collect();
    let mut found: Vec<String> =
        kept.lines().filter_map(|line| line.split_once(':')).map(|(tag, _)| format!("{tag}:")).collect();
    found.retain(|tag| lines().iter().any(|segment| labels(segment) == *tag));
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "{kept}");
}

/// The passage behind which the question is likeliest comes first.
#[test]
fn relevance_is_the_likelihood_of_the_question() {
    let mut session = session_of(lines());
    let (whole, model) = (session.snapshot().tokens().to_vec(), naive());
    let head = &whole[..head_len()];
    for task in [TASK, "Who keeps the Velmar ledger?"] {
        let asked = tokens(&format!("{task} We can get the answer to this question in the given documents."));
        let value = |segment: &Segment| {
            let line = tokens(&format!("{}: {}\n", segment.source.tag(), segment.text));
            -mean(&nats(&model, &[head, &line].concat(), &asked))
        };
        let mut values: Vec<(f64, usize)> = lines().iter().enumerate().map(|(i, s)| (value(s), i)).collect();
        values.sort_by(|a, b| b.0.total_cmp(&a.0));
        let all = "longllmlingua:0.9,order=relevance,coarse=1,spread=0.2,stretch=4096";
        let said = text(&message(&mut session, all, task)[head_len()..]);
        let tag = |index: usize| lines()[index].source.tag();
        let tags: Vec<&str> = said.lines().map(|line| line.split(':').next().unwrap()).collect();
        let expected: Vec<&str> = values.iter().map(|(_, index)| tag(*index)).take(tags.len()).collect();
        assert!(tags.len() + 2 >= lines().len(), "{said}");
        assert_eq!(tags, expected, "{task}: {said}");
        // Alone, whole: the first.
        let first = &lines()[values[0].1];
        let line = format!("{}: {}\n", first.source.tag(), first.text);
        let size = head_len() + tokens(&line).len();
        let alone = message(&mut session, &format!("longllmlingua:{size}t,coarse=1"), task);
        assert_eq!(text(&alone[head_len()..]), line, "{task}");
    }
}

/// In the order of relevance a passage is a line of its own; in that of the text, passages of one line stay together.
#[test]
fn passages_are_lines_where_their_order_is_another() {
    let long = "The Oslund relay is old. The Velmar ledger is red. The Torwick vault is shut. Anara is here.";
    let mut session = session_of([Segment::finding(long)]);
    let lines_of = |handoff: &str, session: &mut _| {
        let kept = message(session, handoff, TASK);
        text(&kept[head_len()..]).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let whole = lines_of("longllmlingua:1,passage=10,coarse=100", &mut session);
    assert_eq!(whole, [format!("finding: {long}")]);
    let apart = lines_of("longllmlingua:1,passage=10,coarse=100,order=relevance", &mut session);
    assert!(apart.len() > 2, "{apart:?}");
    assert!(apart.iter().all(|line| line.starts_with("finding:")), "{apart:?}");
}
