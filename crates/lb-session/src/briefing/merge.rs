//! One report from those of layers, or of chunks, that were compacted apart.
//!
//! Relative errors of parts are joined by their root mean square, each part weighing the same, since their norms are
//! not reported. Times add up.

use lb_am::{BetaFit, ErrorTarget, Report, Timing, ValuesFit};

/// The report of layers that were compacted one after another. `shared` where one mask was made for all of them.
pub(crate) fn of_layers(mut reports: Vec<Report>, shared: bool) -> Option<Report> {
    let count = reports.len() as f64;
    let whole: usize = reports.iter().map(|r| r.seq_len).sum();
    let kept: f64 = reports.iter().map(|r| r.keep_ratio * r.seq_len as f64).sum();
    let longest = (0..reports.len()).rev().max_by_key(|index| reports[*index].kept_len)?;
    let (beta, values, timing) = (beta(&reports), values(&reports), timing(&reports));
    let mean = |of: fn(&Report) -> &Vec<f32>| -> Vec<f32> {
        let len = reports.iter().map(|r| of(r).len()).max().unwrap_or(0);
        let sum = |slot| reports.iter().filter_map(|r| of(r).get(slot)).map(|g| f64::from(*g)).sum::<f64>();
        (0..len).map(|slot| (sum(slot) / count) as f32).collect()
    };
    let (scores, raw_scores) = if shared {
        (reports[0].scores.clone(), reports[0].raw_scores.clone())
    } else {
        (mean(|r| &r.scores), mean(|r| &r.raw_scores))
    };
    let masks = if shared { Vec::new() } else { masks(&reports) };
    let kept_len = reports[longest].kept_len;
    let seq_len = reports.iter().map(|r| r.seq_len).max()?;
    let keep_ratio = kept / whole as f64;
    Some(Report {
        seq_len,
        kept_len,
        keep_ratio,
        scores,
        raw_scores,
        masks,
        beta,
        values,
        timing,
        ..reports.swap_remove(longest)
    })
}

/// The report of chunks that lie behind one another.
pub(crate) fn of_chunks(mut reports: Vec<Report>) -> Option<Report> {
    if reports.len() <= 1 {
        return reports.pop();
    }
    let seq_len: usize = reports.iter().map(|r| r.seq_len).sum();
    let kept: f64 = reports.iter().map(|r| r.keep_ratio * r.seq_len as f64).sum();
    let largest = (0..reports.len()).rev().max_by_key(|index| reports[*index].kept_len)?;
    Some(Report {
        seq_len,
        kept_len: reports.iter().map(|r| r.kept_len).sum(),
        keep_ratio: kept / seq_len as f64,
        scores: reports.iter().flat_map(|r| r.scores.iter().copied()).collect(),
        raw_scores: reports.iter().flat_map(|r| r.raw_scores.iter().copied()).collect(),
        masks: masks(&reports),
        beta: beta(&reports),
        values: values(&reports),
        error_target: error_target(&reports),
        timing: timing(&reports),
        ..reports.swap_remove(largest)
    })
}

fn masks(reports: &[Report]) -> Vec<lb_am::MaskInfo> {
    let of = |r: &Report| if r.masks.is_empty() { vec![r.mask.clone()] } else { r.masks.clone() };
    reports.iter().flat_map(of).collect()
}

fn root_mean_square(errors: impl Iterator<Item = f64>) -> f64 {
    let squares: Vec<f64> = errors.map(|error| error * error).collect();
    (squares.iter().sum::<f64>() / squares.len().max(1) as f64).sqrt()
}

fn beta(reports: &[Report]) -> Option<BetaFit> {
    let fits: Vec<&BetaFit> = reports.iter().filter_map(|r| r.beta.as_ref()).collect();
    let first = fits.first()?;
    Some(BetaFit {
        iterations: fits.iter().map(|f| f.iterations).max().unwrap_or(first.iterations),
        mass_error_before: root_mean_square(fits.iter().map(|f| f.mass_error_before)),
        mass_error_after: root_mean_square(fits.iter().map(|f| f.mass_error_after)),
        clamped: fits.iter().map(|f| f.clamped).sum(),
    })
}

fn values(reports: &[Report]) -> Option<ValuesFit> {
    let fits: Vec<&ValuesFit> = reports.iter().filter_map(|r| r.values.as_ref()).collect();
    let count = fits.len() as f64;
    let left_out: Vec<f64> = fits.iter().filter_map(|f| f.left_out_error).collect();
    (!fits.is_empty()).then(|| ValuesFit {
        output_error_before: root_mean_square(fits.iter().map(|f| f.output_error_before)),
        output_error_after: root_mean_square(fits.iter().map(|f| f.output_error_after)),
        lambda: (fits.iter().map(|f| f.lambda.ln()).sum::<f64>() / count).exp(),
        importance: fits.iter().map(|f| f.importance).sum::<f64>() / count,
        left_out_error: (!left_out.is_empty()).then(|| root_mean_square(left_out.iter().copied())),
        jitter: fits.iter().map(|f| f.jitter).fold(0.0, f64::max),
    })
}

/// Every chunk meets the target on its own; what is named is the worst of them.
fn error_target(reports: &[Report]) -> Option<ErrorTarget> {
    reports.iter().filter_map(|r| r.error_target).reduce(|a, b| ErrorTarget {
        epsilon: a.epsilon,
        estimated: a.estimated.max(b.estimated),
        tried: a.tried + b.tried,
        held_out: a.held_out && b.held_out,
    })
}

fn timing(reports: &[Report]) -> Timing {
    reports.iter().fold(Timing::default(), |sum, report| Timing {
        search: sum.search + report.timing.search,
        scores: sum.scores + report.timing.scores,
        mask: sum.mask + report.timing.mask,
        beta: sum.beta + report.timing.beta,
        values: sum.values + report.timing.values,
        total: sum.total + report.timing.total,
    })
}
