//! The threads that compute on the CPU.

use std::env;
use std::num::NonZeroUsize;
use std::thread;

/// Makes the calling thread one of those that compute, which are rayon's.
///
/// Work then begins where it is asked for; otherwise this thread wakes another for every convolution and sleeps
/// until that is done. For the main thread of a program, before anything is computed; later it changes nothing.
///
/// Where there is one thread alone (`RAYON_NUM_THREADS=1`, or a single core) it changes nothing either: what
/// other threads hand in would wait for this one, which may be waiting for them.
pub fn compute_here_too() {
    let wanted = env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok()).filter(|threads| *threads > 0);
    let threads = wanted.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZeroUsize::get));
    if threads > 1 {
        // It fails if something has been computed already, with threads that are as good.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global();
    }
}
