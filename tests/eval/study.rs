//! Methods compared on the worker's own caches.

use latent_briefing::am::{BetaMethod, Selection};
use latent_briefing::eval::study::{
    Cell, Method, Study, figures, plot, read_cells, read_head_budgets, write_cells,
};
use latent_briefing::prelude::*;

use crate::support::embedded;

const STUDY: Study = Study { seed: 77, episodes: 2, questions: 3, words: (60, 120) };

fn cells(methods: &[Method], ratios: &[f64]) -> Vec<Cell> {
    let mut heard = Vec::new();
    let cells = STUDY.run(embedded(), methods, ratios, &mut |done| heard.push(done)).unwrap();
    assert_eq!(heard, [1, 2]);
    cells
}

#[test]
fn the_whole_cache_has_no_error_and_smaller_ones_have_more() {
    let methods = [vec![Method::Full], Method::ours(), Method::baselines()].concat();
    let cells = cells(&methods, &[0.8, 0.2]);
    let questions = cells.iter().filter(|cell| cell.method == "full cache").count();
    assert!((4..=6).contains(&questions), "{questions}");
    assert_eq!(cells.len(), questions * (1 + 2 * (methods.len() - 1)));
    for cell in &cells {
        assert!(cell.error.is_finite() && cell.nll >= 0.0 && cell.nll.is_finite(), "{cell:?}");
        if cell.method == "full cache" {
            assert!(cell.error < 1e-5 && (cell.bytes_ratio - 1.0).abs() < 1e-9, "{cell:?}");
        } else {
            assert!(cell.keep_ratio >= cell.asked - 1e-9 && cell.keep_ratio < cell.asked + 0.1, "{cell:?}");
        }
    }
    let summed = figures::figures(&cells);
    let error = |method: &str, asked: f64| {
        summed.iter().find(|f| f.method == method && (f.asked - asked).abs() < 1e-9).unwrap().error
    };
    for method in methods.iter().skip(1) {
        assert!(error(&method.name(), 0.2) > error(&method.name(), 0.8), "{}", method.name());
    }
    assert!(error("per layer (default)", 0.2) < error("random", 0.2));
}

/// Greedy decoding token by token writes what the single pass over the answer says.
#[test]
fn exact_answers_are_those_that_the_worker_writes() {
    let methods = [Method::new("default", Compaction::keep_ratio(0.5))];
    for cell in cells(&methods, &[0.5]) {
        use latent_briefing::eval::episodes::{Episode, EpisodeConfig};
        let config = EpisodeConfig::held_out(STUDY.words, STUDY.questions);
        let episode = Episode::generate(cell.episode, &config).unwrap();
        let mut session = embedded().session().unwrap();
        session.extend_all(episode.lines.iter().map(Segment::from), &mut |_, _| {}).unwrap();
        let question = &episode.questions[cell.question];
        let outcome = session
            .ask(question.text.as_str())
            .via(Handoff::briefing(Compaction::keep_ratio(0.5)))
            .run()
            .unwrap();
        assert_eq!(outcome.answer.text == question.answer, cell.right, "{}", question.text);
    }
}

#[test]
fn ablations_and_targets_size_themselves_where_they_should() {
    let cells = cells(&[Method::error_targets(&[0.5]), Method::ablations()].concat(), &[0.4]);
    let target = cells.iter().find(|cell| cell.method == "error below 0.5").unwrap();
    assert!(target.estimated.is_some() && target.asked.abs() < 1e-12);
    let on_policy = cells.iter().filter(|cell| cell.method == "on policy").count();
    assert!(on_policy > 0);
    let table = figures::targets_table(&cells);
    assert!(table.contains("error below 0.5"), "{table}");
}

#[test]
fn tables_and_files_hold_what_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    let cells = cells(&[vec![Method::Full], Method::ours()].concat(), &[0.5, 0.2]);
    let path = folder.path().join("cells.jsonl");
    write_cells(&path, &cells).unwrap();
    let back = read_cells(&path).unwrap();
    assert_eq!(back.len(), cells.len());
    for (back, cell) in back.iter().zip(&cells) {
        // Decimal fractions are read to the last bit but one.
        assert!((back.error - cell.error).abs() < 1e-12 && (back.nll - cell.nll).abs() < 1e-12);
        assert_eq!(
            (&back.method, back.right, back.paraphrased),
            (&cell.method, cell.right, cell.paraphrased)
        );
    }
    let figures = figures::figures(&cells);
    assert_eq!(figures::csv(&figures).lines().count(), 1 + figures.len());
    assert!(figures::table(&figures).contains("per layer (default)"));
    assert!(figures::kinds_table(&figures, 0.2).contains("paraphrased"));
    let picture = folder.path().join("plot.png");
    plot::draw(&figures, &Method::ours(), &picture).unwrap();
    let bytes = std::fs::read(&picture).unwrap();
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 10_000);
    let full: Vec<_> = figures.into_iter().filter(|f| f.method == "full cache").collect();
    assert!(plot::draw(&full, &[], &picture).is_err());
    std::fs::write(&path, "{\"method\": 3}\n").unwrap();
    let error = read_cells(&path).unwrap_err().to_string();
    assert!(error.contains("cells.jsonl, line 1"), "{error}");
}

#[test]
fn head_budgets_are_measured_and_used() {
    let study = Study { episodes: 1, questions: 1, ..STUDY };
    let budgets = study.head_sensitivity(embedded(), &mut |_| {}).unwrap().budgets().unwrap();
    let config = embedded().config();
    assert_eq!(budgets.shares.len(), config.num_hidden_layers);
    assert!(budgets.shares.iter().all(|layer| layer.len() == config.num_key_value_heads));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("heads.json");
    std::fs::write(&path, budgets.to_json()).unwrap();
    assert_eq!(read_head_budgets(&path).unwrap(), budgets);
    assert!(figures::head_budgets_table(&budgets).contains("layer 5"));
    let cells = cells(&[Method::with_head_budgets(budgets)], &[0.3]);
    assert!(cells.iter().all(|cell| (cell.keep_ratio - 0.3).abs() < 0.05));
}

#[test]
fn sizes_out_of_range_are_named() {
    let methods = [Method::new("zero", Compaction::keep_ratio(0.1).with_beta(BetaMethod::Zero))];
    for ratios in [&[][..], &[0.0], &[1.5], &[f64::NAN]] {
        let error = STUDY.run(embedded(), &methods, ratios, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("keep_ratio"), "{error}");
    }
    let bad = Compaction::mad(-1.0).with_selection(Selection::per_head());
    assert!(STUDY.run(embedded(), &[Method::new("bad", bad)], &[0.1], &mut |_| {}).is_err());
}
