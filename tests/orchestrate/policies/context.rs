//! The context manager: never over its budget, nothing left out silently, and what is left out can be fetched.

use latent_briefing::orchestrate::{ChatMessage, Error, Role};
use latent_briefing::orchestrate::{
    Event, Form, Item, ItemKind, Managed, ManagerConfig, PromptView, RunRecord, TrajectoryManager,
    plan_context,
};
use latent_briefing::session::Segment;
use proptest::prelude::*;

use super::*;

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn kind() -> impl Strategy<Value = ItemKind> {
    prop::sample::select(vec![
        ItemKind::Request,
        ItemKind::Decision,
        ItemKind::Code,
        ItemKind::Error,
        ItemKind::State,
        ItemKind::Content,
        ItemKind::Reasoning,
        ItemKind::Chatter,
    ])
}

fn text() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "one two three four five",
        "```repl",
        "```",
        "KeyError: 'a'",
        "{\"a\": 1, \"b\": {\"c\": 2}}",
        "see [A page](https://a.org/b?c=1) for more",
        "",
        "ordinary words of a page that says a lot about very little",
    ]);
    prop::collection::vec(line, 0..40).prop_map(|lines| lines.join("\n"))
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    prop::collection::vec((kind(), text()), 0..24).prop_map(|all| {
        let item = |(number, (kind, text)): (usize, (ItemKind, String))| Item {
            kind,
            text,
            name: format!("item_{number}"),
            protected: false,
            stays: false,
        };
        all.into_iter().enumerate().map(item).collect()
    })
}

fn configs() -> impl Strategy<Value = ManagerConfig> {
    (0usize..6, prop::sample::select(vec![0.0, 2.0, 8.0]), any::<u64>(), any::<bool>(), any::<bool>())
        .prop_map(|(window, half_life, seed, diffs, pointers)| ManagerConfig {
            window,
            half_life,
            seed,
            diffs,
            pointers,
            ..ManagerConfig::default()
        })
}

/// What is shown of an item, by the report and by what is kept.
fn check(items: &[Item], made: &Managed, budget: usize, config: &ManagerConfig) {
    let shown: usize = made.kept.iter().map(|kept| words(&kept.text)).sum();
    assert!(shown <= budget && made.tokens == shown, "{shown} of {budget}: {made:?}");
    for (index, item) in items.iter().enumerate() {
        let kept = made.kept.iter().find(|kept| kept.index == index);
        let left = made.left_out.iter().find(|left| left.index == index);
        match (kept, left) {
            (Some(kept), None) => assert_eq!(kept.text, item.text),
            (kept, Some(left)) => {
                assert_eq!(kept.is_none(), left.form == Form::Gone, "{left:?}");
                assert_eq!(left.pinned, config.pin.contains(&item.kind));
                assert_eq!(left.pointer.is_some(), config.pointers);
                assert!(left.tokens < left.tokens_before || left.tokens_before == 0, "{left:?}");
            }
            (None, None) => panic!("item {index} is neither kept nor reported"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_budget_holds_and_nothing_is_left_out_silently(
        items in items(),
        config in configs(),
        budget in 0usize..600,
    ) {
        let made = plan_context(&items, budget, &config, &words).unwrap();
        check(&items, &made, budget, &config);
        // Nothing is touched that fits.
        if made.tokens_before <= budget {
            prop_assert!(made.left_out.is_empty());
        }
        // A pinned item gives way only where everything else has gone before it.
        if made.left_out.iter().any(|left| left.pinned) {
            for (index, item) in items.iter().enumerate().filter(|(_, item)| !config.pin.contains(&item.kind)) {
                let gone = made.left_out.iter().any(|left| left.index == index && left.form == Form::Gone);
                prop_assert!(gone || words(&item.text) == 0, "item {} stays and a pinned one does not", index);
            }
        }
        // The same seed, the same plan.
        prop_assert_eq!(made, plan_context(&items, budget, &config, &words).unwrap());
    }

    #[test]
    fn a_trajectory_never_grows_past_its_budget(texts in prop::collection::vec((0usize..5, text()), 0..30), budget in 64usize..400) {
        let config = ManagerConfig { trajectory_tokens: Some(budget), ..ManagerConfig::default() };
        let mut manager = TrajectoryManager::new(config);
        let mut entered = 0;
        for (source, text) in texts {
            let segment = match source {
                0 => Segment::finding(text),
                1 => Segment::code(text),
                2 => Segment::reasoning(text),
                _ => Segment::tool(text),
            };
            let made = manager.admit(&segment, &|_| true, &words);
            entered += made.segment.as_ref().map_or(0, |segment| words(&segment.text));
            prop_assert!(made.left_out.is_some() || made.segment == Some(segment));
            prop_assert!(entered <= budget && entered == manager.spent());
        }
    }
}

/// What two seeds leave out differs; one seed leaves out more of what is older.
#[test]
fn decay_goes_by_the_seed_and_by_age() {
    let page = "a page of ordinary words ".repeat(30);
    let item = |number| Item {
        kind: ItemKind::Content,
        text: page.clone(),
        name: format!("item_{number}"),
        protected: false,
        stays: false,
    };
    let items: Vec<Item> = (0..40).map(item).collect();
    let gone = |seed: u64| -> Vec<usize> {
        let config = ManagerConfig { seed, head_chars: 20, half_life: 8.0, ..ManagerConfig::default() };
        let made = plan_context(&items, 40 * 150 / 3, &config, &words).unwrap();
        made.left_out.iter().map(|left| left.index).collect()
    };
    assert_eq!(gone(1), gone(1));
    assert_ne!(gone(1), gone(2));
    let (mut old, mut new) = (0, 0);
    for seed in 0..50 {
        old += gone(seed).iter().filter(|index| **index < 18).count();
        new += gone(seed).iter().filter(|index| (18..36).contains(*index)).count();
    }
    assert!(old > new + 100, "{old} of the older, {new} of the newer half");
    // Some old pages survive: it is a draw, not a cut.
    assert!(old < 50 * 18, "{old}");
}

#[test]
fn ledgers_become_what_changed_and_errors_keep_their_lines() {
    let ledger = |reason: &str| {
        Segment::reasoning(format!(
            "Updated Ledger:\n{{\"is_request_satisfied\": {{\"reason\": \"{reason}\", \"answer\": false}}, \
             \"next_speaker\": {{\"reason\": \"It can search the web and read pages.\", \"answer\": \"WebSurfer\"}}}}"
        ))
    };
    let filler = "Ordinary words of a page. ".repeat(60);
    let failed = Segment::tool(format!("{filler}\nFile not found: /data/76.pdf\n{filler}"));
    let segments =
        [ledger("Nothing is known yet."), failed, ledger("The file is missing."), Segment::tool(filler)];
    let items: Vec<Item> =
        segments.iter().enumerate().map(|(number, segment)| Item::of(segment, number)).collect();
    let kinds: Vec<ItemKind> = items.iter().map(|item| item.kind).collect();
    assert_eq!(kinds, [ItemKind::State, ItemKind::Error, ItemKind::State, ItemKind::Content]);
    let config = ManagerConfig { window: 0, ..ManagerConfig::default() };
    let made = plan_context(&items, 130, &config, &words).unwrap();
    check(&items, &made, 130, &config);
    let shown = |index: usize| &made.kept.iter().find(|kept| kept.index == index).unwrap().text;
    assert!(shown(1).contains("File not found: /data/76.pdf"), "{}", shown(1));
    let form = |index: usize| made.left_out.iter().find(|left| left.index == index).map(|left| left.form);
    assert_eq!(form(1), Some(Form::Excerpt));
    // Where there is room for it, a state that was there before is what changed, not an excerpt.
    let roomy = plan_context(&items, words(&items[1].text) + 70, &config, &words).unwrap();
    let changed = roomy.left_out.iter().find(|left| left.index == 2).unwrap();
    let text = &roomy.kept.iter().find(|kept| kept.index == 2).map(|kept| kept.text.clone());
    match changed.form {
        Form::Diff => assert!(
            text.as_ref()
                .unwrap()
                .contains("what changed: {\"is_request_satisfied.reason\":\"The file is missing.\"}")
        ),
        other => assert!(other > Form::Diff, "{changed:?}"),
    }
}

#[test]
fn a_prompt_keeps_its_prefix_until_the_budget_is_passed_again() {
    let output = |n: usize| format!("REPL output:\n{}", format!("line {n} of a long output ").repeat(40));
    let mut messages = vec![
        ChatMessage::new(Role::System, "You answer a question."),
        ChatMessage::new(Role::User, "Answer the following: who?"),
    ];
    let config = ManagerConfig { window: 2, head_chars: 40, ..ManagerConfig::default() };
    let mut view = PromptView::new(config);
    let (mut replans, mut before): (usize, Vec<ChatMessage>) = (0, Vec::new());
    for turn in 0..20 {
        let made = view.of(&messages, &|index| index < 2, 2400, &words).unwrap();
        assert!(made.managed.tokens <= 2400);
        assert_eq!(made.messages[..2], messages[..2]);
        replans += usize::from(!made.messages.starts_with(&before));
        assert_eq!(made.messages.last().unwrap().role, messages.last().unwrap().role);
        for name in made.managed.left_out.iter().filter_map(|left| left.pointer.as_deref()) {
            assert!(
                made.messages.iter().any(|message| message.content.contains(name))
                    || name.starts_with("message_")
            );
        }
        before = made.messages;
        messages.push(ChatMessage::new(Role::Assistant, repl(&format!("print({turn})"))));
        messages.push(ChatMessage::new(Role::User, output(turn)));
    }
    assert!((1..10).contains(&replans), "{replans} of 20 prompts begin anew");
    // What must not be left out is more than the budget.
    let error =
        PromptView::new(ManagerConfig::default()).of(&messages, &|index| index < 2, 3, &words).unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error}");
}

/// A loop whose outputs are long: the prompts stay within the budget, code fetches what was left out, the log says what that was, and a
/// resumed run has it again.
#[test]
fn what_a_prompt_leaves_out_is_fetched_by_code() {
    let dir = tempfile::tempdir().unwrap();
    let flood = "for i in range(60):\n    print('line', i, 'of a long and very tiresome output')";
    let turns = |n: usize| -> Vec<String> {
        let mut turns: Vec<String> = (0..n).map(|i| repl(&format!("{flood}\nprint('turn', {i})"))).collect();
        turns.push(repl("print(message_4[:12], len(message_4))"));
        turns
    };
    let mut config = logged(config(), dir.path());
    config.context.prompt_tokens = Some(6000);
    config.context.window = 2;
    let mut orchestrator = script(turns(5).into_iter().chain([ready("str(len(message_4))")]));
    let mut managed = 0;
    let hear = &mut |event: &Event<'_>| {
        if let Event::PromptManaged(made) = event {
            assert!(made.tokens <= 6000, "{} tokens", made.tokens);
            managed += 1;
        }
    };
    let run = rlm(config.clone()).run_with(&mut orchestrator, "What?", hear).unwrap();
    assert!(managed >= 2, "{managed}");
    let record = RunRecord::open(run.log.unwrap()).unwrap();
    let whole = &record.iterations.last().unwrap().prompt[4].content;
    assert!(whole.contains("line 59"), "the log has the conversation whole");
    assert_eq!(run.answer, whole.chars().count().to_string());
    let left = record.iterations.last().unwrap().managed.as_ref().unwrap();
    assert!(left.left_out.iter().any(|left| left.pointer.as_deref() == Some("message_4")), "{left:?}");
    // The last turn is cut off: the variables are there again, and the answer is the same.
    let text = std::fs::read_to_string(&record.path).unwrap();
    let end = text.trim_end().rfind('\n').unwrap() + 1;
    std::fs::write(&record.path, &text[..end]).unwrap();
    let resumed = Rlm::resume(&record.path, embedded(), monty, config).unwrap();
    assert_eq!(resumed.differing, 0);
    let mut rlm = resumed.rlm;
    let again = rlm.go_on(&mut script([ready("str(len(message_4))")]), &mut |_| {}).unwrap();
    assert_eq!(again.answer, run.answer);
}

#[test]
fn what_the_trajectory_leaves_out_is_in_the_log_and_in_the_repl() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = logged(config(), dir.path());
    config.context.trajectory_tokens = Some(200);
    let flood = "for i in range(40):\n    print('Open part', i, ': done.')";
    let mut rlm = rlm(config.clone());
    let keeper = "note(\"The Velmar ledger is kept by Anara.\")";
    let turns =
        [repl(keeper), repl(flood), repl(flood), repl("print(len(segment_1))"), ready("str(len(segment_1))")];
    let run = rlm.run(&mut script(turns), "What?").unwrap();
    assert!(rlm.session().seq_len() < 200 + rlm.session().head_len() + 40, "{}", rlm.session().seq_len());
    let record = RunRecord::open(run.log.unwrap()).unwrap();
    let entered: Vec<_> = record.iterations.iter().flat_map(|iteration| &iteration.entered).collect();
    let first = entered.iter().find(|entered| entered.managed.is_some()).unwrap();
    let (left, whole) = (first.managed.as_ref().unwrap(), first.whole.as_ref().unwrap());
    assert_eq!((left.kind, left.pointer.as_deref()), (ItemKind::Content, Some("segment_1")));
    assert!(whole.contains("Open part 39") && !first.text.contains("Open part 39"));
    assert_eq!(run.answer, whole.chars().count().to_string());
    // A finding is pinned and enters whole.
    assert!(entered.iter().any(|entered| entered.text.contains("Anara") && entered.managed.is_none()));
    // The log is the loop's until it ends.
    let tokens = rlm.session().tokens().to_vec();
    drop(rlm);
    let resumed = Rlm::resume(&record.path, embedded(), monty, config).unwrap();
    assert_eq!((resumed.differing, resumed.answer.as_deref()), (0, Some(run.answer.as_str())));
    assert_eq!(resumed.rlm.session().tokens(), tokens);
}
