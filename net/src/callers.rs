//! Who is enrolled, and who of them is let in no more: two lists in the authority's folder, by callers' numbers, which are changed by
//! one at a time and read again and again by a server. See `docs/adr/0028-a-till-that-is-lost.md` and
//! `docs/adr/0029-who-is-on-the-list.md`.
//!
//! `callers`, appended to: number, role, school, name. `revoked`, put in the old one's place: number, and when in milliseconds since
//! 1970. `numbers`, put in the old one's place: the last number that was given out or is left out, whatever the lists say now.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use frokost_engine::{Caller, CallerId, Role, SchoolId, Timestamp};

use crate::enrol::{EnrolError, content, file_error, replace};

/// Who is let in no more, and since when.
pub type Revoked = BTreeMap<CallerId, Timestamp>;

/// One line of the list of everyone enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Who.
    pub caller: Caller,
    /// Under which name.
    pub name: String,
}

/// The lists.
#[derive(Debug, Clone)]
pub struct Callers {
    enrolled: PathBuf,
    revoked: PathBuf,
    numbers: PathBuf,
}

impl Callers {
    /// The lists in an authority's folder.
    #[must_use]
    pub fn of(folder: &Path) -> Callers {
        let [enrolled, revoked, numbers] = ["callers", "revoked", "numbers"].map(|name| folder.join(name));
        Callers { enrolled, revoked, numbers }
    }

    /// Everyone enrolled so far.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn enrolled(&self) -> Result<Vec<Enrolled>, EnrolError> {
        entries(&read(&self.enrolled)?)
            .lines()
            .map(|line| parse_line(line).ok_or_else(|| content(&self.enrolled, &format!("'{line}' is no entry"))))
            .collect()
    }

    /// Who is let in no more.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn revoked(&self) -> Result<Revoked, EnrolError> {
        let entry = |line: &str| {
            let (number, since) = line.split_once(' ')?;
            Some((CallerId(number.parse().ok()?), Timestamp(since.parse().ok()?)))
        };
        let why = "is no caller's number and moment (milliseconds since 1970); mend that line";
        read(&self.revoked)?
            .lines()
            .map(|line| entry(line).ok_or_else(|| content(&self.revoked, &format!("'{line}' {why}"))))
            .collect()
    }

    /// Notes a new caller, who is given a number. The name is for people and must be new.
    pub(crate) fn add(&self, name: &str, role: Role, school: SchoolId) -> Result<Caller, EnrolError> {
        let sound = (1..=32).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !sound {
            return Err(EnrolError::BadName(name.to_owned()));
        }
        // Two that enrol at once would give out the same number.
        let mut list = self.locked()?;
        let mut text = String::new();
        let failed = || file_error(&self.enrolled);
        list.read_to_string(&mut text).map_err(failed())?;
        let kept = entries(&text);
        if self.enrolled()?.iter().any(|other| other.name == name) {
            return Err(EnrolError::NameTaken(name.to_owned()));
        }
        let none_left = || content(&self.numbers, &"no numbers are left");
        let caller = Caller { id: CallerId(self.last_number()?.checked_add(1).ok_or_else(none_left)?), role, school };
        // Before anybody has it: whatever becomes of the list, it is nobody else's.
        replace(&self.numbers, format!("{}\n", caller.id).as_bytes())?;
        list.set_len(kept.len() as u64).map_err(failed())?;
        let end = if kept.is_empty() || kept.ends_with('\n') { "" } else { "\n" };
        list.write_all(format!("{end}{} {} {} {name}\n", caller.id, role.name(), school).as_bytes())
            .and_then(|()| list.sync_all())
            .map_err(failed())?;
        Ok(caller)
    }

    /// Lets a till in no more, and says who it is and since when that is so. A running server closes its connections within two seconds.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn revoke(&self, name: &str, now: Timestamp) -> Result<(Caller, Timestamp), EnrolError> {
        self.change_revoked(name, |revoked, id| *revoked.entry(id).or_insert(now))
    }

    /// Lets a till in again that was revoked, and says who it is and since when it had been, if it was.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn readmit(&self, name: &str) -> Result<(Caller, Option<Timestamp>), EnrolError> {
        self.change_revoked(name, |revoked, id| revoked.remove(&id))
    }

    fn change_revoked<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Revoked, CallerId) -> T,
    ) -> Result<(Caller, T), EnrolError> {
        // Of two changes at once one would be lost.
        let _lock = self.locked()?;
        let known = self.enrolled()?.into_iter().find(|enrolled| enrolled.name == name);
        let caller = known.ok_or_else(|| EnrolError::NoSuchCaller(name.to_owned()))?.caller;
        if caller.role != Role::Till {
            return Err(EnrolError::NotATill { name: name.to_owned(), role: caller.role });
        }
        let mut revoked = self.revoked()?;
        let changed = change(&mut revoked, caller.id);
        let text: String = revoked.iter().map(|(id, since)| format!("{id} {}\n", since.0)).collect();
        replace(&self.revoked, text.as_bytes())?;
        Ok((caller, changed))
    }

    /// Leaves numbers out, ten thousand at least: somebody may have them whom the lists do not know, since they are of an older day. How many
    /// is a matter of chance, so that two installations from one backup do not give out the same.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn skip_numbers(&self) -> Result<(), EnrolError> {
        let _lock = self.locked()?;
        let left_out = 10_000 * fastrand::u32(1..=10_000);
        replace(&self.numbers, format!("{}\n", self.last_number()?.saturating_add(left_out)).as_bytes())
    }

    /// The highest number that has been given out, or is left out.
    fn last_number(&self) -> Result<u32, EnrolError> {
        let text = read(&self.numbers)?;
        let noted = match text.trim_end() {
            "" => 0,
            number => number.parse().map_err(|_| content(&self.numbers, &format!("'{number}' is no number")))?,
        };
        let listed = self.enrolled()?.into_iter().map(|enrolled| enrolled.caller.id);
        Ok(listed.chain(self.revoked()?.into_keys()).map(|id| id.0).fold(noted, u32::max))
    }

    /// The list of those enrolled, for one at a time.
    fn locked(&self) -> Result<File, EnrolError> {
        let failed = || file_error(&self.enrolled);
        let list = OpenOptions::new().read(true).append(true).create(true).open(&self.enrolled).map_err(failed())?;
        list.lock().map_err(failed())?;
        Ok(list)
    }
}

/// What a file says; nothing where there is none.
fn read(path: &Path) -> Result<String, EnrolError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(file_error(path)),
    }
}

/// The lines of a list. What is torn off behind the last was never told to anybody; a whole entry there lacks only its line end, as some editors leave it.
fn entries(text: &str) -> &str {
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    match text.get(whole..).map(parse_line) {
        Some(Some(_)) => text,
        Some(None) | None => text.get(..whole).unwrap_or_default(),
    }
}

fn parse_line(line: &str) -> Option<Enrolled> {
    let mut words = line.split(' ');
    let id = CallerId(words.next()?.parse().ok()?);
    let role = Role::from_name(words.next()?)?;
    let school = SchoolId(words.next()?.parse().ok()?);
    let name = words.next()?.to_owned();
    words.next().is_none().then_some(Enrolled { caller: Caller { id, role, school }, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHOOL: SchoolId = SchoolId(1);

    #[test]
    fn names_and_numbers_are_given_out_once() {
        let folder = tempfile::tempdir().unwrap();
        let callers = Callers::of(folder.path());
        let first = callers.add("till-1", Role::Till, SCHOOL).unwrap();
        assert!(matches!(callers.add("till-1", Role::Till, SCHOOL), Err(EnrolError::NameTaken(_))));
        assert!(matches!(callers.add("Till 1", Role::Till, SCHOOL), Err(EnrolError::BadName(_))));
        let second = callers.add("portal", Role::Portal, SchoolId(0)).unwrap();
        assert_ne!(first.id, second.id);
        assert_eq!(callers.enrolled().unwrap().len(), 2);
        callers.skip_numbers().unwrap();
        let third = callers.add("till-2", Role::Till, SCHOOL).unwrap().id.0;
        assert!(third > second.id.0 + 10_000, "{third}");
        assert_eq!(callers.add("till-3", Role::Till, SCHOOL).unwrap().id.0, third + 1);
        // Whoever is taken off the list by hand is not followed by another of the same number.
        fs::write(folder.path().join("callers"), "").unwrap();
        assert_eq!(callers.add("till-3", Role::Till, SCHOOL).unwrap().id.0, third + 2);
        // Nor is whoever was revoked and taken off it, where a list is older than the note.
        callers.revoke("till-3", Timestamp(1)).unwrap();
        for lost in ["callers", "numbers"] {
            fs::remove_file(folder.path().join(lost)).unwrap();
        }
        assert_eq!(callers.add("till-3", Role::Till, SCHOOL).unwrap().id.0, third + 3);
        fs::write(folder.path().join("numbers"), "many\n").unwrap();
        let unreadable = callers.add("till-4", Role::Till, SCHOOL).unwrap_err().to_string();
        assert!(unreadable.ends_with("numbers: 'many' is no number"), "{unreadable}");
    }

    #[test]
    fn a_line_torn_by_a_power_cut_names_nobody_and_one_without_its_end_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let callers = Callers::of(folder.path());
        let list = folder.path().join("callers");
        for (torn, named) in
            [("1 till 1 till-1\n2 til", 1), ("1 till 1 till-1\n2 till 1 till-2", 2), ("1 till 1 till-1", 1)]
        {
            fs::write(&list, torn).unwrap();
            assert_eq!(callers.enrolled().unwrap().len(), named, "{torn}");
            assert!(callers.add("till-1", Role::Till, SCHOOL).is_err());
            assert_eq!(fs::read_to_string(&list).unwrap(), torn, "nobody was enrolled");
            callers.add("till-3", Role::Till, SCHOOL).unwrap();
            let names: Vec<String> = callers.enrolled().unwrap().into_iter().map(|enrolled| enrolled.name).collect();
            assert_eq!((names.len(), names.last().unwrap().as_str()), (named + 1, "till-3"), "{torn}");
        }
    }

    #[test]
    fn a_till_is_revoked_once_and_readmitted_and_nobody_else_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let callers = Callers::of(folder.path());
        let till = callers.add("till-1", Role::Till, SCHOOL).unwrap();
        callers.add("portal", Role::Portal, SchoolId(0)).unwrap();
        let (first, later) = (Timestamp(1000), Timestamp(2000));
        assert_eq!(callers.revoke("till-1", first).unwrap(), (till, first));
        assert_eq!(callers.revoke("till-1", later).unwrap(), (till, first), "it stays as it was");
        assert_eq!(callers.revoked().unwrap(), Revoked::from([(till.id, first)]));
        assert_eq!(callers.readmit("till-1").unwrap(), (till, Some(first)));
        assert_eq!(callers.readmit("till-1").unwrap(), (till, None));
        assert_eq!(callers.revoked().unwrap(), Revoked::new());
        let unknown = callers.revoke("till-2", first).unwrap_err().to_string();
        assert!(unknown.contains("no caller named 'till-2'"), "{unknown}");
        let portal = callers.revoke("portal", first).unwrap_err().to_string();
        assert_eq!(portal, "'portal' is no till but the installation's portal, which cannot be revoked");
    }
}
