//! The answers of a command, printed as they come, or with `--json` as one document.

use crate::error::{Error, Kind};
use crate::json::Value;
use crate::out;
use crate::report::Outcome;
use std::io::{self, Write as _};

/// Prints the outcomes of a command, and keeps its exit status.
pub(crate) struct Answers {
    json: bool,
    /// The exit status of an error. Commands that pass on the status of another program have one
    /// exit status for all errors.
    status_of: fn(Kind) -> u8,
    /// The worst status so far.
    status: u8,
    /// The documents and their places, if the command prints one array.
    array: Option<Vec<(usize, Value)>>,
}

impl Answers {
    pub(crate) fn new(json: bool, status_of: fn(Kind) -> u8) -> Self {
        Self { json, status_of, status: 0, array: None }
    }

    /// Makes all documents from here on the elements of one array, which [`Self::end`] prints.
    pub(crate) fn begin_array(&mut self) {
        self.array.get_or_insert_default();
    }

    /// Reports an outcome, after the earlier ones.
    pub(crate) fn tell(&mut self, outcome: Outcome) {
        self.tell_at(usize::MAX, outcome);
    }

    /// Reports these errors, and says whether there are any.
    pub(crate) fn refuse(&mut self, errors: Vec<Error>) -> bool {
        let any = !errors.is_empty();
        for error in errors {
            self.tell(Err(error));
        }
        any
    }

    /// Reports an outcome and gives its exit status. Text for people is written at once; documents
    /// are sorted by `place`.
    pub(crate) fn tell_at(&mut self, place: usize, outcome: Outcome) -> u8 {
        let (document, text, status) = match outcome {
            Ok(report) => (report.json, report.text, report.exit_code),
            Err(error) => (Some(error.json()), String::new(), self.fail(&error)),
        };
        self.status = self.status.max(status);
        match (document, &mut self.array) {
            (Some(document), Some(array)) if self.json => array.push((place, document)),
            (Some(document), _) if self.json => self.write(&document.pretty()),
            (Some(_), _) => self.write(&text),
            (None, _) => {}
        }
        status
    }

    /// Closes the array, if there is one, and gives the exit status of the command.
    pub(crate) fn end(mut self) -> u8 {
        if let Some(mut documents) = self.array.take().filter(|_| self.json) {
            documents.sort_by_key(|(place, _)| *place);
            let documents = documents.into_iter().map(|(_, document)| document).collect();
            self.write(&Value::Array(documents).pretty());
        }
        self.status
    }

    /// Writes to standard output. A failure is reported unless the command has failed anyway.
    fn write(&mut self, text: &str) {
        if let Err(error) = out::write(text.as_bytes())
            && self.status == 0
        {
            self.status = self.fail(&error);
        }
    }

    /// Writes the error for people, and gives its exit status.
    fn fail(&self, error: &Error) -> u8 {
        let _ = io::stderr().write_all(error.text().as_bytes());
        (self.status_of)(error.kind)
    }
}
