//! What a command is given to read: recorded logs and notes, as one trajectory.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use lb_session::{Segment, Source, Trajectory, WorkerSession, read_text};

use crate::exit::Usage;
use crate::{Result, complain};

/// Which files: the same for every command that reads a trajectory.
#[derive(clap::Args)]
pub(crate) struct Files {
    /// Recorded logs (.json, .jsonl, .traj: docs/evaluating.md says whose) and texts, one behind the other; - or nothing is
    /// standard input. In a text, a line that begins with finding:, tool:, reasoning:, artifact:, code:, reply: or request:
    /// begins a segment of that kind; a text without such lines is one artifact for each paragraph.
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

impl Files {
    /// All of them as segments.
    pub(crate) fn read(&self) -> Result<Vec<Segment>> {
        let mut segments = Vec::new();
        if self.files.is_empty() {
            if std::io::stdin().is_terminal() {
                return Err(Usage("want a FILE to read, or a text on standard input".to_owned()).into());
            }
            segments.extend(of_stdin()?);
        }
        for file in &self.files {
            segments.extend(if file == Path::new("-") { of_stdin()? } else { of_file(file)? });
        }
        if segments.is_empty() {
            return Err("there is nothing to read in it".into());
        }
        Ok(segments)
    }

    /// Reads all of them into a session.
    pub(crate) fn enter(&self, session: &mut WorkerSession) -> Result<()> {
        let entered = session.extend_all(self.read()?, &mut |_, _| {})?;
        if entered.left_out() > 0 {
            complain!("{} tokens of it are outside of what the worker reads", entered.left_out());
        }
        Ok(())
    }
}

fn of_stdin() -> Result<Vec<Segment>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
    Ok(of_text(&text))
}

fn of_file(path: &Path) -> Result<Vec<Segment>> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    if !["json", "jsonl", "ndjson", "traj"].contains(&ending.as_str()) {
        return Ok(of_text(&read_text(path)?));
    }
    let log = Trajectory::read(path)?;
    for note in &log.notes {
        complain!("{}: {note}", path.display());
    }
    Ok(log.into_iter().collect())
}

/// Lines that begin with a tag and what follows them, or paragraphs.
fn of_text(text: &str) -> Vec<Segment> {
    let tagged = |line: &str| {
        let (tag, rest) = line.split_once(':')?;
        Some((Source::of_tag(tag.trim())?, rest.trim().to_owned()))
    };
    let mut segments: Vec<Segment> = Vec::new();
    let mut paragraph = false;
    let any = text.lines().any(|line| tagged(line).is_some());
    for line in text.lines() {
        match tagged(line) {
            Some((source, rest)) => segments.push(Segment::new(source, rest)),
            None if !any && line.trim().is_empty() => paragraph = false,
            None => match segments.last_mut().filter(|_| any || paragraph) {
                Some(segment) => segment.text.extend(["\n", line]),
                None => segments.push(Segment::artifact(line)),
            },
        }
        paragraph |= !line.trim().is_empty();
    }
    for segment in &mut segments {
        segment.text = segment.text.trim().to_owned();
    }
    segments.retain(|segment| !segment.text.is_empty());
    segments
}

#[cfg(test)]
mod tests {
    use lb_session::Segment;

    use super::of_text;

    #[test]
    fn tags_begin_segments() {
        let text = "Notes of Monday\n\nfinding: Anara keeps it.\nSince May.\ntool: no match\n\n";
        assert_eq!(
            of_text(text),
            [
                Segment::artifact("Notes of Monday"),
                Segment::finding("Anara keeps it.\nSince May."),
                Segment::tool("no match")
            ]
        );
    }

    #[test]
    fn paragraphs_are_artifacts() {
        let text = "One line.\nAnother: of it.\n\n\nThe second.\n";
        assert_eq!(
            of_text(text),
            [Segment::artifact("One line.\nAnother: of it."), Segment::artifact("The second.")]
        );
        assert!(of_text(" \n\n").is_empty());
    }
}
