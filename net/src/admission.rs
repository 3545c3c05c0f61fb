//! Who is let in: whom the list of callers names, and the list of those revoked does not. A server reads both again and again. See
//! `docs/adr/0029-who-is-on-the-list.md`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, RwLock};

use frokost_engine::{Caller, CallerId};

use crate::callers::{Callers, Revoked};
use crate::enrol::EnrolError;

/// Whether somebody comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Welcome,
    /// Was let in once and is no more.
    Revoked,
    /// Is not on the list, or there as somebody else.
    Unknown,
}

/// The lists, as they were when it was last looked.
#[derive(Debug)]
pub(crate) struct Admission {
    lists: Callers,
    seen: RwLock<Seen>,
    /// One looks at a time: what was read first is not put over what was read later.
    looking: Mutex<()>,
}

#[derive(Debug, PartialEq)]
struct Seen {
    enrolled: BTreeMap<CallerId, Caller>,
    revoked: Revoked,
    /// They could not be read; that has been said.
    unreadable: bool,
}

impl Admission {
    /// # Errors
    /// [`EnrolError`] if a list is there and cannot be read.
    pub(crate) fn begin(lists: Callers) -> Result<Admission, EnrolError> {
        let seen = RwLock::new(read(&lists)?);
        Ok(Admission { lists, seen, looking: Mutex::default() })
    }

    /// Looks again, and says whether anything has changed. What cannot be read leaves things as they were.
    pub(crate) fn look(&self) -> bool {
        let _one_at_a_time = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let now = read(&self.lists);
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        match now {
            // A list that is gone or emptied turns nobody out: it is being written anew, or somebody has made a mistake.
            Ok(now) if now.enrolled.is_empty() && !seen.enrolled.is_empty() => {
                seen.cannot_be_read(&"the list of callers is empty or gone");
                false
            }
            Ok(now) => {
                let changed = *seen != now;
                *seen = now;
                changed
            }
            Err(error) => {
                seen.cannot_be_read(&error);
                false
            }
        }
    }

    pub(crate) fn of(&self, caller: Caller) -> Verdict {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        if seen.revoked.contains_key(&caller.id) {
            Verdict::Revoked
        } else if seen.enrolled.get(&caller.id) == Some(&caller) {
            Verdict::Welcome
        } else {
            Verdict::Unknown
        }
    }
}

impl Seen {
    fn cannot_be_read(&mut self, error: &dyn std::fmt::Display) {
        if !self.unreadable {
            tracing::error!(%error, "who may come in cannot be read; it stays as it was, nobody is added and nobody revoked");
        }
        self.unreadable = true;
    }
}

fn read(lists: &Callers) -> Result<Seen, EnrolError> {
    let enrolled = lists.enrolled()?.into_iter().map(|enrolled| (enrolled.caller.id, enrolled.caller)).collect();
    Ok(Seen { enrolled, revoked: lists.revoked()?, unreadable: false })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use frokost_engine::{Role, SchoolId, Timestamp};

    use super::*;

    #[test]
    fn what_cannot_be_read_changes_nothing_and_is_refused_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let lists = Callers::of(folder.path());
        let admission = Admission::begin(lists.clone()).unwrap();
        let till = lists.add("till-1", Role::Till, SchoolId(1)).unwrap();
        assert_eq!(admission.of(till), Verdict::Unknown, "not looked yet");
        assert!(admission.look() && !admission.look(), "it changed once");
        assert_eq!(admission.of(till), Verdict::Welcome);
        for other in [
            Caller { role: Role::Operator, ..till },
            Caller { school: SchoolId(2), ..till },
            Caller { id: CallerId(7), ..till },
        ] {
            assert_eq!(admission.of(other), Verdict::Unknown, "{other:?}");
        }
        lists.revoke("till-1", Timestamp(1_790_000_000_000)).unwrap();
        assert!(admission.look());
        assert_eq!(admission.of(till), Verdict::Revoked);
        for (list, says) in [("revoked", "'four' is no caller's number and moment"), ("callers", "'four' is no entry")]
        {
            let path = folder.path().join(list);
            let sound = fs::read(&path).unwrap();
            fs::write(&path, "four\n").unwrap();
            admission.look();
            assert_eq!(admission.of(till), Verdict::Revoked, "lists that cannot be read let nobody in");
            let refused = Admission::begin(lists.clone()).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
            fs::write(&path, sound).unwrap();
        }
        lists.readmit("till-1").unwrap();
        admission.look();
        assert_eq!(admission.of(till), Verdict::Welcome);
        // Replaced by hand, it may be away for a moment.
        let path = folder.path().join("callers");
        for gone in [|path: &Path| fs::write(path, "").unwrap(), |path: &Path| fs::remove_file(path).unwrap()] {
            gone(&path);
            assert!(!admission.look());
            assert_eq!(admission.of(till), Verdict::Welcome, "a list that is gone turns nobody out");
        }
    }
}
