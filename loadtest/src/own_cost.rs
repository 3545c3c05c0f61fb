//! What the load tester itself costs: the share of the machine's processors that this process used. A tester that is the bottleneck measures
//! itself.

use std::time::Instant;

/// A measurement under way.
#[derive(Debug)]
pub(crate) struct OwnCost {
    begun: Instant,
    used: Option<f64>,
}

impl OwnCost {
    pub(crate) fn begin() -> OwnCost {
        OwnCost { begun: Instant::now(), used: processor_seconds() }
    }

    /// 0 to 1 of all processors; nothing where the system does not say.
    pub(crate) fn share(&self) -> Option<f64> {
        let processors = f64::from(u32::try_from(std::thread::available_parallelism().ok()?.get()).ok()?);
        let used = processor_seconds()? - self.used?;
        Some(used / (self.begun.elapsed().as_secs_f64() * processors))
    }
}

/// Of all threads so far, in user and system mode: the 14th and 15th field of `/proc/self/stat`, in hundredths of a second.
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let ticks: f64 = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_noticed() {
        let cost = OwnCost::begin();
        let begin = Instant::now();
        let mut n = 0u64;
        while begin.elapsed().as_millis() < 200 {
            n = std::hint::black_box(n + 1);
        }
        assert!(cost.share().is_some_and(|share| share > 0.02), "{:?}", cost.share());
    }
}
