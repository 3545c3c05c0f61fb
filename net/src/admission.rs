//! Who is let in: whom the list of callers names, and the list of those revoked does not. A server reads both again and again. See
//! `docs/adr/0029-who-is-on-the-list.md`.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

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
        Ok(Admission { lists, seen })
    }

    /// Looks again, and says whether anything has changed. What cannot be read leaves things as they were.
    pub(crate) fn look(&self) -> bool {
        let now = read(&self.lists);
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        match now {
            Ok(now) => {
                let changed = *seen != now;
                *seen = now;
                changed
            }
            Err(error) => {
                if !seen.unreadable {
                    tracing::error!(%error, "who may come in cannot be read; it stays as it was, nobody is added and nobody revoked");
                }
                seen.unreadable = true;
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

fn read(lists: &Callers) -> Result<Seen, EnrolError> {
    let enrolled = lists.enrolled()?.into_iter().map(|enrolled| (enrolled.caller.id, enrolled.caller)).collect();
    Ok(Seen { enrolled, revoked: lists.revoked()?, unreadable: false })
}

#[cfg(test)]
mod tests {
    use std::fs;

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
    }
}
