//! A thread that comes behind all others: it computes when nobody else wants to. `docs/adr/0034-behind-all-others.md` says what that is worth.

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

/// From now on this thread comes behind all others, as far as that is allowed. There is no way back without a privilege, so it is for a thread
/// that ends when its work does.
pub fn step_back() {
    // With this policy Linux has whoever wakes preempt it at once and takes its processor for a free one; with the highest nice value
    // alone it does not. Where it is not allowed, the nice value has to do; and that counts among those who have stepped back.
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    let _ = rustix::process::nice(19);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests stop where they are wrong")]

    /// Nice value and scheduling policy of this thread, as the kernel has them.
    fn mine() -> (i32, u32) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // What stands behind the name begins with the third field.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let field = |number: usize| fields.split(' ').nth(number - 3).unwrap();
        (field(19).parse().unwrap(), field(41).parse().unwrap())
    }

    #[test]
    fn a_thread_steps_back_alone() {
        const SCHED_IDLE: u32 = 5;
        let before = mine();
        let there = std::thread::spawn(|| {
            super::step_back();
            mine()
        });
        assert_eq!(there.join().unwrap(), (19, SCHED_IDLE));
        assert_eq!(mine(), before);
        assert_ne!(before.1, SCHED_IDLE);
    }
}
