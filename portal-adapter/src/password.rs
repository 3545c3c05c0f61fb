//! Passwords: argon2id, hashed by a thread of its own that gives way to everybody else, and one at a time, so that a hundred parents logging
//! in take neither two gigabytes nor the tills' processor.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use frokost_persistence::priority::step_back;
use tokio::sync::Semaphore;

use crate::error::PortalError;
use crate::words::Words;

/// 19 MiB, two passes, one lane: what OWASP asks for at least.
fn argon() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).expect("the parameters are sound");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// The hash of a new password, in PHC form.
///
/// # Panics
/// If the system has no randomness.
#[must_use]
pub fn hash(password: &str) -> String {
    let salt = SaltString::generate(&mut OsRng);
    argon().hash_password(password.as_bytes(), &salt).expect("a password can be hashed").to_string()
}

/// The least a password may have.
const LEAST: usize = 10;
/// The most that is looked at; longer ones would only keep the processor busy.
const MOST: usize = 200;
/// What whoever knows this portal tries first.
const OURS: [&str; 8] = ["frokost", "kantine", "kantinekort", "madkort", "madpakke", "skole", "skolemad", "lunch"];

/// What is wrong with a new password and its repetition. `about` is what a guesser would try first.
pub(crate) fn problems(password: &str, again: &str, about: &[&str], w: &Words) -> [Option<&'static str>; 2] {
    let length = password.chars().count();
    let first = if length < LEAST {
        Some(w.password_short)
    } else if length > MOST {
        Some(w.field_too_long)
    } else if zxcvbn::zxcvbn(password, &[about, &OURS].concat()).score() < zxcvbn::Score::Three {
        Some(w.password_weak)
    } else {
        None
    };
    [first, (password != again).then_some(w.password_differs)]
}

/// What is wrong with a password that somebody else chooses for a parent, in English.
#[must_use]
pub fn weakness(password: &str, about: &[&str]) -> Option<&'static str> {
    let [problem, _] = problems(password, password, about, crate::words::Language::English.words());
    problem
}

/// So many times as long as others had the processor meanwhile.
const RESTS: u32 = 6;
/// Four parents a second get in at any rate.
const LONGEST_REST: Duration = Duration::from_millis(250);

/// Threads that hash. Two cores are what such a machine has, and one of them is the tills'.
const THREADS: usize = 1;

type Job = Box<dyn FnOnce() + Send>;

/// Hashes passwords on threads of its own, which the system lets run when nobody else wants to: a sale never waits for a log in.
pub(crate) struct Hashing {
    jobs: std::sync::mpsc::Sender<Job>,
    /// So many jobs may be with the threads; who comes later waits outside.
    places: Semaphore,
    /// What an unknown user's password is held against, so that an unknown user takes as long as a known one.
    nobody: String,
}

impl Hashing {
    /// # Errors
    /// If a thread cannot be started.
    pub(crate) fn new() -> std::io::Result<Hashing> {
        let (jobs, waiting) = std::sync::mpsc::channel::<Job>();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..THREADS {
            let waiting = Arc::clone(&waiting);
            std::thread::Builder::new().name("passwords".to_owned()).spawn(move || work(&waiting))?;
        }
        Ok(Hashing { jobs, places: Semaphore::new(THREADS), nobody: hash("nobody has this password") })
    }

    /// The hash of a new password.
    pub(crate) async fn make(&self, password: String) -> Result<String, PortalError> {
        self.done(move || hash(&password))
            .await
            .ok_or_else(|| PortalError::Internal("no password can be hashed".to_owned()))
    }

    /// Is it the password behind `stored`? Takes as long, and says no, if nothing is stored.
    pub(crate) async fn check(&self, password: String, stored: Option<String>) -> bool {
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.nobody.clone());
        let check = move || {
            PasswordHash::new(&stored).is_ok_and(|hash| argon().verify_password(password.as_bytes(), &hash).is_ok())
        };
        self.done(check).await.unwrap_or(false) && known
    }

    async fn done<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let _place = self.places.acquire().await.ok()?;
        let (done, result) = tokio::sync::oneshot::channel();
        // Whoever asked may have gone away.
        self.jobs.send(Box::new(move || drop(done.send(work())))).ok()?;
        result.await.ok()
    }
}

/// Does jobs for as long as somebody can ask for some.
fn work(waiting: &Mutex<std::sync::mpsc::Receiver<Job>>) {
    step_back();
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        let (begin, used) = (Instant::now(), used());
        // Without this thread nobody could log in any more; whoever asked for what panicked hears no.
        drop(catch_unwind(AssertUnwindSafe(job)));
        std::thread::sleep(rest(begin.elapsed(), self::used().saturating_sub(used)));
    }
}

/// How much of the processor this thread has had.
fn used() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Two virtual cores are often one real one: also a thread that gives way takes something from its neighbour. So it rests, the longer the more of
/// the time others wanted the processor; where nobody does, not at all.
fn rest(took: Duration, used: Duration) -> Duration {
    took.saturating_sub(used).saturating_mul(RESTS).min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_is_guessed_first_is_refused() {
        let w = crate::words::Language::Danish.words();
        let judge = |password: &str| problems(password, password, &["mor@example.dk", "Anna Holm"], w)[0];
        for (password, problem) in [
            ("kort", Some(w.password_short)),
            ("password12", Some(w.password_weak)),
            ("mor@example", Some(w.password_weak)),
            ("aaaaaaaaaaaa", Some(w.password_weak)),
            ("grøn cykel under broen", None),
        ] {
            assert_eq!(judge(password), problem, "{password}");
        }
        assert_eq!(problems("grøn cykel under broen", "grøn cykel", &[], w)[1], Some(w.password_differs));
    }

    #[test]
    fn hashing_rests_while_others_want_the_processor() {
        let ms = Duration::from_millis;
        assert_eq!(rest(ms(50), ms(50)), Duration::ZERO, "nobody else is there");
        assert_eq!(rest(ms(60), ms(50)), ms(60));
        assert_eq!(rest(ms(900), ms(50)), LONGEST_REST);
        assert_eq!(rest(ms(50), ms(51)), Duration::ZERO, "clocks differ");
    }

    #[tokio::test]
    async fn a_job_that_panics_takes_no_other_with_it() {
        let hashing = Hashing::new().unwrap();
        assert_eq!(hashing.done(|| -> u8 { panic!("a job's own fault") }).await, None);
        assert_eq!(hashing.done(|| 7).await, Some(7), "nobody can log in any more");
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_right() {
        let hashing = Hashing::new().unwrap();
        let stored = hash("hemmelig frokost");
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(hashing.check("hemmelig frokost".into(), Some(stored.clone())).await);
        assert!(!hashing.check("hemmelig".into(), Some(stored)).await);
        assert!(!hashing.check("nobody has this password".into(), None).await);
        assert!(!hashing.check("x".into(), Some("not a hash".into())).await);
    }
}
