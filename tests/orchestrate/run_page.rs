//! A run as a page, and as text on a terminal.

use std::sync::OnceLock;

use latent_briefing::explain;
use latent_briefing::orchestrate::{ChildRecord, Entered, Error, RunRecord, WorkerCall};
use latent_briefing::sandbox::Fault;
use latent_briefing::session::{BriefingMap, Source};
use ring::digest;

use crate::support::{embedded, recorded_run};

/// Bytes of a page for each position of each briefing: two in base64, as documented.
const BYTES_PER_POSITION: f64 = 8.0 / 3.0;
/// Bytes of a page for a call without its map and its texts, and for a turn without its own.
const BYTES_PER_CALL: usize = 12_000;

const HOSTILE: &str = "</script><script>alert(1)</script></style><img src=x onerror=alert(1)>\"'><!-- {{ 7*7 }} {% raw %} \
                       ]]> &lt;b&gt; \u{0}\u{1b}[2J\u{202e}gnp.exe\u{2066}\u{feff}\u{2028}";

fn record() -> RunRecord {
    static RECORD: OnceLock<RunRecord> = OnceLock::new();
    let made = || {
        let dir = tempfile::tempdir().unwrap();
        recorded_run::record(embedded(), dir.path())
    };
    RECORD.get_or_init(made).clone()
}

fn page(record: &RunRecord) -> String {
    explain::run_page(record).unwrap()
}

fn calls(record: &mut RunRecord) -> impl Iterator<Item = &mut WorkerCall> {
    let blocks = record.iterations.iter_mut().flat_map(|turn| &mut turn.code_blocks);
    blocks.flat_map(|block| &mut block.result.rlm_calls)
}

/// What stands between two marks, each time.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    let parts = text.split(open).skip(1);
    parts.map(|part| part.split(close).next().unwrap_or_default()).collect()
}

fn unbase64(text: &str) -> Vec<u8> {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let values: Vec<u32> = text.chars().filter_map(|c| letters.find(c)).map(|v| v as u32).collect();
    let word = |group: &[u32]| group.iter().enumerate().fold(0, |word, (at, v)| word | v << (18 - 6 * at));
    let bytes = |group: &[u32]| {
        let word: u32 = word(group);
        word.to_be_bytes()[1..group.len()].to_vec()
    };
    values.chunks(4).flat_map(bytes).collect()
}

/// The tokens that the script would show for a map, with what it says of each.
fn shown(page: &str, figure: &str) -> Vec<(String, u8, u8)> {
    let attribute = |name: &str| between(figure, &format!("{name}=\""), "\"")[0].to_owned();
    let map = unbase64(&attribute("data-map"));
    let (kept_by, heat) = map.split_at(map.len() / 2);
    let script = format!("id=\"{}\">", attribute("data-trajectory"));
    let tokens: serde_json::Value = serde_json::from_str(between(page, &script, "</script>")[0]).unwrap();
    let texts = |list: &serde_json::Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|piece| piece.as_str().unwrap().to_owned()).collect()
    };
    let mut pieces = texts(&tokens["head"]);
    let without: Vec<(usize, usize)> = attribute("data-without")
        .split_whitespace()
        .map(|range| range.split_once('-').map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).unwrap())
        .collect();
    let upto: usize = attribute("data-upto").parse().unwrap();
    for (number, segment) in tokens["segments"].as_array().unwrap().iter().enumerate().take(upto) {
        if !without.iter().any(|(from, to)| (*from..*to).contains(&number)) {
            pieces.extend(texts(&segment[1]));
        }
    }
    assert_eq!(pieces.len(), kept_by.len(), "every position has its token");
    pieces.into_iter().zip(kept_by).zip(heat).map(|((piece, k), h)| (piece, *k, *h)).collect()
}

fn figures(page: &str) -> Vec<&str> {
    between(page, "<figure class=\"map\"", "</figure>")
}

#[test]
fn the_page_tells_the_whole_run() {
    let record = record();
    let page = page(&record);
    for said in [
        "<h1>Which code opens the item",
        "The Vorrik vault, which the Rastas lens points to, opens by code 7295",
        "Answered in turn 6.",
        "a script (program)",
        "latent-briefing, MAD rule with τ = 4",
        "<b>6</b> worker calls",
        "NameError: name &#x27;by_part&#x27; is not defined",
        "context (2,935 characters)",
    ] {
        assert!(page.contains(said), "{said}");
    }
    assert_eq!(
        page.matches("<details class=\"call").count(),
        7,
        "six calls and the recursive one around one of them"
    );
    assert_eq!(figures(&page).len(), 6);
    assert!(page.contains("<div class=\"nested\">"));
    assert_eq!(page.matches(" open>").count(), 1, "the first briefing is open");
    assert!(!page.contains("@@"));
}

#[test]
fn every_token_of_a_map_is_the_one_that_the_briefing_scored() {
    let record = record();
    let page = page(&record);
    let figures = figures(&page);
    let maps: Vec<BriefingMap> =
        calls(&mut record.clone()).filter_map(|call| call.briefing.clone()).collect();
    // The third call of turn 4: its briefing knew the replies to the calls of earlier batches only.
    let turn = &record.iterations[3];
    let call = &turn.code_blocks[0].result.rlm_calls[2];
    let map = call.briefing.as_ref().unwrap();
    let number = maps.iter().position(|m| m == map).unwrap();
    let tokens = shown(&page, figures[number]);
    let mut pieces = record.metadata.latent_briefing.head.clone();
    for earlier in &record.iterations[..3] {
        pieces.extend(earlier.entered.iter().flat_map(|entered| entered.pieces.clone()));
    }
    let known = turn.entered.iter().filter(|entered| entered.after_calls <= 2);
    pieces.extend(known.flat_map(|entered| entered.pieces.clone()));
    assert_eq!(tokens.iter().map(|t| t.0.as_str()).collect::<Vec<_>>(), pieces);
    assert!(tokens.iter().map(|t| t.1).eq(map.kept_by.iter().copied()));
    assert!(tokens.iter().map(|t| t.2).eq(map.heat.iter().copied()));
    let kept: String = tokens.iter().filter(|t| t.1 > 0).map(|t| t.0.as_str()).collect();
    assert!(kept.contains("Raspex"), "what the question is about was kept: {kept}");
}

#[test]
fn the_excerpt_shows_kept_text_without_the_script() {
    let page = page(&record());
    for figure in figures(&page) {
        let tokens = shown(&page, figure);
        let excerpt = between(figure, "<div class=\"tokens excerpt\">", "</div>")[0];
        for stretch in between(excerpt, "\">", "</span>").iter().filter(|s| **s != " … ") {
            let plain = stretch.replace("&lt;", "<").replace("&gt;", ">").replace("&#x2f;", "/");
            let plain = plain.replace("&#x27;", "'").replace("&quot;", "\"").replace("&amp;", "&");
            let kept: String = tokens.iter().filter(|t| t.1 > 0).map(|t| t.0.replace('\n', " ")).collect();
            assert!(kept.contains(&plain) || plain == "…", "{plain:?}");
        }
    }
}

/// Puts `text` wherever a log has text.
fn poison(record: &mut RunRecord, text: &str) {
    let own = |field: &mut String| text.clone_into(field);
    let metadata = &mut record.metadata;
    for field in [&mut metadata.root_model, &mut metadata.backend, &mut metadata.environment_type] {
        own(field);
    }
    own(&mut metadata.timestamp);
    own(&mut metadata.latent_briefing.question);
    own(&mut metadata.latent_briefing.worker);
    metadata.latent_briefing.head.iter_mut().for_each(own);
    metadata.latent_briefing.contexts.iter_mut().for_each(|context| own(&mut context.name));
    for turn in &mut record.iterations {
        turn.reasoning = Some(text.to_owned());
        turn.response = format!("{text}\n```repl\n{text}\n```\n```repl\nunclosed {text}");
        own(&mut turn.question);
        turn.final_answer = Some(text.to_owned());
        turn.stopped = Some(text.to_owned());
        turn.partial_answer = Some(text.to_owned());
        turn.finish = latent_briefing::orchestrate::Finish::Other(text.to_owned());
        turn.entered.iter_mut().for_each(|entered| entered.pieces.iter_mut().for_each(own));
        for block in &mut turn.code_blocks {
            own(&mut block.code);
            own(&mut block.result.stdout);
            own(&mut block.result.stderr);
            block.result.locals.insert(text.to_owned(), text.to_owned());
        }
    }
    for call in calls(record) {
        for field in [&mut call.root_model, &mut call.prompt, &mut call.response, &mut call.handoff] {
            own(field);
        }
        own(&mut call.query.prompt);
        call.query.document = Some(text.to_owned());
        call.error = Some(text.to_owned());
    }
}

#[test]
fn hostile_text_does_not_break_out() {
    let plain = page(&record());
    let mut record = record();
    poison(&mut record, HOSTILE);
    let page = page(&record);
    for (bad, allowed) in [
        ("<script", plain.matches("<script").count()),
        ("</script", plain.matches("</script").count()),
        ("</style", 1),
        ("<style", 1),
        ("<img", 0),
        ("<!--", 0),
        ("onerror=alert(1)>", 0),
    ] {
        assert_eq!(page.matches(bad).count(), allowed, "{bad}");
    }
    for acts in ['\u{0}', '\u{1b}', '\u{202e}', '\u{2066}', '\u{feff}', '\u{2028}'] {
        assert!(!page.contains(acts), "{acts:?}");
    }
    assert!(page.contains("&lt;&#x2f;script&gt;&lt;script&gt;alert(1)"), "it is there, as text");
    assert!(page.contains("\\u{0}\\u{1b}[2J\\u{202e}gnp.exe") && page.contains("{{ 7*7 }}"));
    for script in between(&page, "<script type=\"application/json\"", "</script>") {
        let json = script.split_once('>').unwrap().1;
        assert!(!json.contains(['<', '>', '&']));
        assert!(serde_json::from_str::<serde_json::Value>(json).is_ok());
    }
}

#[test]
fn the_page_loads_nothing_and_runs_its_own_script_only() {
    let page = page(&record());
    for outside in
        ["http://", "https://", "src=", "href=\"/", "url(", "@import", "<link", "<iframe", "fetch("]
    {
        assert!(!page.contains(outside), "{outside}");
    }
    let policy = between(&page, "http-equiv=\"Content-Security-Policy\" content=\"", "\"")[0];
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    let script = between(&page, "<script>", "</script>")[0];
    let digest = digest::digest(&digest::SHA256, script.as_bytes());
    let stated = unbase64(between(policy, "'sha256-", "'")[0]);
    // A new one for the template: openssl dgst -sha256 -binary | base64, of the script as the page has it.
    assert_eq!(stated, digest.as_ref(), "the policy names the script as it is");
}

#[test]
fn long_texts_are_cut_with_a_word_about_it() {
    let mut record = record();
    poison(&mut record, &"x".repeat(3_000_000));
    for turn in &mut record.iterations {
        turn.entered.iter_mut().for_each(|entered| entered.pieces.iter_mut().for_each(String::clear));
    }
    record.metadata.latent_briefing.head.iter_mut().for_each(String::clear);
    let page = page(&record);
    assert!(page.contains("… 2,980,000 characters are not shown …"));
    assert!(page.len() < 4_000_000, "{} bytes", page.len());
}

#[test]
fn a_cache_that_is_not_what_the_log_says_is_shown_without_text() {
    // Made room: the last call's briefing has fewer positions than the trajectory.
    let mut record = record();
    let last = calls(&mut record).last().unwrap();
    let map = last.briefing.as_mut().unwrap();
    let len = map.kept_by.len() - 100;
    (map.seq_len, map.kept_by, map.heat) = (len, map.kept_by[100..].to_vec(), map.heat[100..].to_vec());
    let shortened = page(&record);
    let figures = figures(&shortened);
    assert!(figures[5].contains("not their text") && !figures[5].contains("data-map"));
    assert!(figures[5].contains("<svg class=\"strip\"") && !figures[5].contains("excerpt"));
    assert!(figures[0].contains("data-map"));

    // Once it was so it stays so, even where the number happens to fit.
    let mut record = self::record();
    let map = calls(&mut record).next().unwrap().briefing.as_mut().unwrap();
    map.seq_len -= 1;
    map.kept_by.pop();
    map.heat.pop();
    let page = page(&record);
    let aligned = self::figures(&page).iter().filter(|figure| figure.contains("data-map")).count();
    assert_eq!(aligned, 1, "the recursive query's own trajectory is another");
}

#[test]
fn damaged_maps_and_absurd_numbers_are_told_and_do_no_harm() {
    let mut record = record();
    for (number, call) in calls(&mut record).enumerate() {
        if let Some(map) = &mut call.briefing {
            match number {
                0 => map.heat.truncate(3),
                1 => (map.kept_by, map.heat, map.seq_len) = (vec![], vec![], 0),
                2 => map.kept_by.fill(255),
                _ => map.keep_ratio = 1e300,
            }
        }
        (call.execution_time, call.prefill_s, call.brief_s) = (1e300, -5.0, f64::MAX);
        call.cache_bytes = usize::MAX;
    }
    let last = record.iterations.last_mut().unwrap();
    last.usage.input = usize::MAX;
    (last.turn, last.iteration_time, last.completion_time) = (usize::MAX, f64::MAX, -1.0);
    last.entered.iter_mut().for_each(|entered| entered.after_calls = usize::MAX);
    let page = page(&record);
    assert_eq!(page.matches("map of this briefing is damaged").count(), 2);
    assert!(!page.contains("NaN") && !page.contains("inf "));
    assert!(explain::trace(&record, 100).contains("18,446,744,073,709,551,615"));
}

#[test]
fn what_a_stopped_turn_left_in_the_cache_is_known_by_the_number_of_positions() {
    let stopped_after = |record: &mut RunRecord, turn: usize, resumed: bool| {
        let mut stopped = record.iterations[turn].clone();
        stopped.code_blocks.clear();
        stopped.final_answer = None;
        (stopped.stopped, stopped.partial_answer) =
            (Some("called off".to_owned()), Some("a draft".to_owned()));
        let pieces = vec!["left".to_owned(); 7];
        stopped.entered = vec![Entered {
            source: Source::Tool,
            name: None,
            text: "left".into(),
            pieces,
            left_out: 0,
            room: Vec::new(),
            seconds: 0.0,
            after_calls: 0,
            managed: None,
            whole: None,
        }];
        record.iterations.insert(turn, stopped);
        record.iterations.iter_mut().enumerate().for_each(|(at, turn)| turn.iteration = at + 1);
        if !resumed {
            for call in calls(record) {
                // What the cache of a run that goes on still has.
                if let Some(map) = &mut call.briefing {
                    map.kept_by.splice(20..20, [0; 7]);
                    map.heat.splice(20..20, [0; 7]);
                    map.seq_len += 7;
                }
            }
        }
    };
    for resumed in [true, false] {
        let mut record = record();
        stopped_after(&mut record, 1, resumed);
        let page = page(&record);
        assert!(page.contains("Not carried through: called off") && page.contains("a draft"));
        let of_run: Vec<&str> =
            figures(&page).into_iter().filter(|f| f.contains("\"trajectory-0\"")).collect();
        assert_eq!(of_run.len(), 5);
        for figure in of_run {
            let left = shown(&page, figure).iter().filter(|token| token.0 == "left").count();
            assert_eq!(left, if resumed { 0 } else { 7 });
        }
    }
}

#[test]
fn every_ending_is_told() {
    let whole = record();
    let ending = |change: &dyn Fn(&mut RunRecord)| {
        let mut record = whole.clone();
        change(&mut record);
        (page(&record), explain::trace(&record, 100))
    };
    let (page, trace) = ending(&|record| record.iterations.clear());
    assert!(page.contains("The log ends before the first turn.") && page.contains("The log holds no turn."));
    assert!(trace.contains("No answer: the log ends before the first turn"));

    let (page, _) = ending(&|record| record.iterations.truncate(3));
    assert!(page.contains("The log ends after turn 3, without an answer."));

    let (page, _) = ending(&|record| record.torn = 4321);
    assert!(page.contains("The last line of the log is not whole (4 KiB)"));

    let (page, _) = ending(&|record| record.iterations.last_mut().unwrap().turn = 0);
    assert!(page.contains("The turns were used up; the last completion gave the answer."));
    assert!(page.contains("Last completion"));

    let (page, trace) = ending(&|record| {
        let last = record.iterations.last_mut().unwrap();
        (last.final_answer, last.stopped) = (None, Some("the run's limit of tokens is reached".to_owned()));
        last.code_blocks[0].result.fault = Some(Fault::Cancelled);
    });
    assert!(page.contains("Stopped in turn 6: the run&#x27;s limit of tokens is reached"));
    assert!(page.contains("<b>cancelled</b>") && trace.contains("No answer: the run's limit of tokens"));

    let (page, trace) = ending(&|record| {
        let mut again = record.iterations.clone();
        for turn in &mut again {
            "And then?".clone_into(&mut turn.question);
        }
        record.iterations.extend(again);
    });
    assert!(page.contains("Question 1") && page.contains("<p class=\"question\">And then?</p>"));
    assert!(page.contains("Next question") && trace.contains("\nQuestion: And then?"));
}

/// The run with `n` calls over `positions` positions in its fourth turn.
fn large(n: usize, positions: usize) -> RunRecord {
    let mut record = record();
    record.iterations.truncate(4);
    let head = record.metadata.latent_briefing.head.len();
    for turn in &mut record.iterations {
        turn.entered.iter_mut().for_each(|entered| entered.pieces.clear());
    }
    record.iterations[0].entered[0].pieces =
        (0..positions - head).map(|at| format!(" word{}", at % 100)).collect();
    let calls = &mut record.iterations[3].code_blocks[0].result.rlm_calls;
    let mut call = calls[0].clone();
    let map = call.briefing.as_mut().unwrap();
    (map.seq_len, map.kept_len) = (positions, positions / 10);
    // Noise is the worst case for runs of equal values.
    map.kept_by =
        (0..positions).map(|at| if at * 2_654_435_761 % 97 < 30 { (at % 101) as u8 } else { 0 }).collect();
    map.heat = (0..positions).map(|at| (at * 40_503 % 101) as u8).collect();
    *calls = vec![call; n];
    record
}

#[test]
fn a_thousand_calls_stay_a_page_that_a_browser_opens() {
    let (calls, positions) = (1_000, 2_000);
    let page = page(&large(calls, positions));
    let maps = (BYTES_PER_POSITION * (calls * positions) as f64) as usize;
    let bound = maps + calls * BYTES_PER_CALL + 200_000;
    eprintln!("{} bytes for {calls} calls over {positions} positions", page.len());
    assert!(page.len() < bound, "{} bytes, want at most {bound}", page.len());
    assert_eq!(page.matches("data-map=").count(), calls);
    assert!(page.contains("72 of 1,000 at equal distances"));
    assert_eq!(between(&page, "<section class=\"overview\"", "</section>")[0].matches("<li>").count(), 72);
    assert!(page.contains("href=\"#call-1000\""));
    assert!(explain::trace(&large(calls, positions), 80).contains("… 988 calls more"));
}

#[test]
fn a_position_more_costs_what_is_stated() {
    let (calls, short, long) = (10, 50_000, 100_000);
    let more = page(&large(calls, long)).len() - page(&large(calls, short)).len();
    // The tokens themselves are there once, as `" word12",`.
    let tokens = (long - short) * 10;
    let each = (more - tokens) as f64 / (calls * (long - short)) as f64;
    assert!((each - BYTES_PER_POSITION).abs() < 0.05, "{each}");
}

#[test]
fn a_page_that_is_full_says_so() {
    let page = page(&large(130, 100_000));
    assert_eq!(page.matches("data-map=").count(), 120);
    assert_eq!(page.matches("The page is full").count(), 10);
    assert!(page.len() < 40_000_000, "{}", page.len());
}

#[test]
fn nested_loops_are_pages_within_the_page() {
    let mut record = record();
    let child = calls(&mut record).find_map(|call| call.metadata.clone()).unwrap();
    let mut deep = child;
    for _ in 0..20 {
        let mut outer = deep.clone();
        let call = &mut outer.iterations[1].code_blocks[0].result.rlm_calls[0];
        call.metadata = Some(ChildRecord { ..deep });
        deep = outer;
    }
    calls(&mut record).find(|call| call.metadata.is_some()).unwrap().metadata = Some(deep);
    let page = page(&record);
    assert_eq!(page.matches("<div class=\"nested\">").count(), 21);
    let ids = between(&page, " id=\"", "\"");
    let distinct: std::collections::BTreeSet<&&str> = ids.iter().collect();
    assert_eq!(ids.len(), distinct.len(), "every id is there once");
}

#[test]
fn the_trace_reads_from_top_to_bottom_within_its_width() {
    let record = record();
    for width in [40, 72, 100] {
        let trace = explain::trace(&record, width);
        assert!(trace.lines().all(|line| line.chars().count() <= width), "{trace}");
    }
    let trace = explain::trace(&record, 100);
    let order = [
        "Question: Which code",
        "Turn 1  (",
        "> print(len(context))",
        "| 2935",
        "! NameError: name 'by_part' is not defined",
        "? Where does the link of the Rastas lens lead?",
        " positions, ",
        "    Turn 1  (",
        "answer: The Vorrik vault",
        "Answer: The Vorrik vault",
        "worker calls  6, ",
    ];
    let mut rest = trace.as_str();
    for part in order {
        rest = rest.split_once(part).unwrap_or_else(|| panic!("{part:?} is not in {rest}")).1;
    }
    let map = calls(&mut record.clone()).next().unwrap().briefing.clone().unwrap();
    assert!(trace.contains(&format!(
        "kept {} of {},{:03} positions",
        map.kept_len,
        map.seq_len / 1000,
        map.seq_len % 1000
    )));
}

#[test]
fn nothing_acts_on_the_terminal() {
    let mut record = record();
    poison(&mut record, HOSTILE);
    let trace = explain::trace(&record, 100);
    assert!(trace.chars().all(|c| c == '\n' || !c.is_control()));
    assert!(!trace.contains(['\u{202e}', '\u{2066}', '\u{2028}']));
}

#[test]
fn a_log_that_is_none_is_refused_by_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.jsonl");
    std::fs::write(&path, "{\"type\":\"metadata\"}\n").unwrap();
    let error = RunRecord::open(&path).unwrap_err();
    crate::support::assert_error!(error, Error::Log { line: Some(1), .. }, "run.jsonl", "line 1");
}
