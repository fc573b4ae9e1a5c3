//! What a refusal means and what to do about it: one table for every class and every reason.
//! `why` prints it, and each command that is refused names one next step from it.

pub mod enrolment;
mod table;

use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::Rejection;

use self::table::TABLE;

/// What is known about a class of refusals.
#[derive(Debug)]
pub struct Advice {
    /// The class.
    pub class: Class,
    /// What it means, a sentence.
    pub means: &'static str,
    /// Where it usually comes from.
    pub causes: &'static [&'static str],
    /// What to do: commands, with why.
    pub remedies: &'static [&'static str],
    /// The one step to try first.
    pub next: &'static str,
    /// For each reason, by its number: what that one says about the cause.
    reasons: &'static [(u16, &'static str)],
}

impl Advice {
    /// What the reason with this number says about the cause.
    pub fn reason(&self, number: u16) -> Option<&'static str> {
        let mut reasons = self.reasons.iter();
        reasons.find(|(n, _)| *n == number).map(|(_, text)| *text)
    }
}

/// The advice on a class; only a class that is newer than this table has none.
pub fn on(class: Class) -> Option<&'static Advice> {
    TABLE.iter().find(|advice| advice.class == class)
}

/// The one step to try first.
pub fn next(rejection: &Rejection) -> &'static str {
    on(rejection.class()).map_or("trustmesh why", |advice| advice.next)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_class_and_every_reason_has_advice() {
        for class in Class::ALL {
            let advice = on(class).expect("a class has advice");
            assert!(
                !advice.means.is_empty() && !advice.next.is_empty(),
                "{class:?}"
            );
            assert!(
                !advice.causes.is_empty() && !advice.remedies.is_empty(),
                "{class:?}"
            );
            let known: Vec<u16> = class.reasons().iter().map(|(number, _)| *number).collect();
            let here: Vec<u16> = advice.reasons.iter().map(|(number, _)| *number).collect();
            assert_eq!(known, here, "{class:?}");
        }
        assert_eq!(TABLE.len(), Class::ALL.len());
    }

    #[test]
    fn the_next_step_is_one_short_line() {
        for advice in TABLE {
            assert!(advice.next.len() <= 90, "{}", advice.next);
        }
    }

    /// A remedy that names a command names one that there is.
    #[test]
    fn every_command_that_is_named_exists() {
        let cli = crate::cli::Cli::command();
        for advice in TABLE {
            let lines = advice.remedies.iter().chain([&advice.next]);
            for mention in lines.flat_map(|line| line.split("trustmesh ").skip(1)) {
                let mut command = &cli;
                for word in mention.split([' ', ';', ',', ':']) {
                    match command.find_subcommand(word) {
                        Some(found) => command = found,
                        None => break,
                    }
                }
                let whole = mention.starts_with("--version") || !command.has_subcommands();
                assert!(whole, "trustmesh {mention}");
            }
        }
    }
}
