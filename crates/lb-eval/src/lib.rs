//! Briefing episodes, conditions, metrics and reports.
