//! The figures as CSV.

use std::fmt::Write;

use lb_io::shown::csv as csv_field;

use crate::bench::aggregate::{Figures, Summary};
use crate::stats::bootstrap::Interval;

/// One line per class and condition; shares from 0 to 1, an empty field where there is no figure.
pub(in crate::bench) fn csv(summary: &Summary) -> String {
    let mut out = String::from(
        "axis,class,condition,rows,items,right,failures,accuracy,accuracy_low,accuracy_high,difference,difference_low,\
         difference_high,mcnemar_p,retention,retention_low,retention_high,worker_median,worker_mean,worker_mean_low,\
         worker_mean_high,reduction,reduction_low,reduction_high,orchestrator_mean,total_mean,medium_savings,\
         medium_savings_low,medium_savings_high,overhead,overhead_low,overhead_high,brief_s_median,keep_ratio,\
         keep_ratio_low,keep_ratio_high,letter_agreement,letter_agreement_low,letter_agreement_high,letter_kl,\
         letter_kl_low,letter_kl_high,letter_mass\n",
    );
    for f in &summary.conditions {
        csv_line(&mut out, "all", "", f);
    }
    for group in &summary.groups {
        for f in &group.conditions {
            csv_line(&mut out, group.axis, &group.value, f);
        }
    }
    out
}

fn csv_line(out: &mut String, axis: &str, class: &str, f: &Figures) {
    let number = |v: f64| format!("{v:.6}");
    let three = |i: Option<Interval>| match i {
        Some(i) => [i.estimate, i.low, i.high].map(number).join(","),
        None => ",,".to_owned(),
    };
    let fields = [
        axis.to_owned(),
        csv_field(class),
        csv_field(&f.condition),
        f.n.to_string(),
        f.items.to_string(),
        f.right.to_string(),
        f.failures.to_string(),
        number(f.accuracy),
        number(f.accuracy_ci[0]),
        number(f.accuracy_ci[1]),
        three(f.difference),
        f.mcnemar.map_or_else(String::new, |m| number(m.mid_p)),
        three(f.retention),
        number(f.worker_median),
        three(Some(f.worker_mean)),
        three(f.reduction),
        number(f.orchestrator_mean),
        number(f.total_mean),
        three(f.medium_savings),
        three(f.overhead),
        number(f.brief_s),
        three(f.keep_ratio),
        f.letters.as_ref().map_or_else(
            || ",,".to_owned(),
            |l| [l.agreement, l.agreement_ci[0], l.agreement_ci[1]].map(number).join(","),
        ),
        three(f.letters.as_ref().map(|l| l.kl)),
        f.letters.as_ref().map_or_else(String::new, |l| number(l.mass)),
    ];
    let _ = writeln!(out, "{}", fields.join(","));
}
