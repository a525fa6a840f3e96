//! The memory of everything in this library: a heap of its own beside that of the C library.
//!
//! The scanner is a copy of CRIU's process made without fork(3). Where another plugin has threads, one of them may hold a
//! lock of malloc(3) at that moment, and in the copy it would never be released. Nothing of ours uses that heap, and the
//! lock of this one is held by the thread that makes the copy ([`locked`]).
//!
//! In the scanner, memory that cannot be had ends the process with a status of its own: no message, no abort. The parent
//! says which limit it was.

use dlmalloc::Dlmalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the scanner exits with when it cannot have memory.
pub(crate) const NO_MEMORY: i32 = 112;

#[global_allocator]
static HEAP: Heap =
    Heap { locked: AtomicBool::new(false), scanner: AtomicBool::new(false), heap: UnsafeCell::new(Dlmalloc::new()) };

struct Heap {
    locked: AtomicBool,
    /// This process is the scanner.
    scanner: AtomicBool,
    heap: UnsafeCell<Dlmalloc>,
}

// SAFETY: the heap is only reached with the lock held (`Heap::with`).
unsafe impl Sync for Heap {}

impl Heap {
    fn lock(&self) {
        while self.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            // Contended in tests and in programs that use the C functions from several threads; CRIU has one.
            std::thread::yield_now();
        }
    }

    fn unlock(&self) {
        self.locked.store(false, Ordering::Release);
    }

    fn with<T>(&self, body: impl FnOnce(&mut Dlmalloc) -> T) -> T {
        self.lock();
        // SAFETY: the lock is held, so that this is the only reference; the heap does not call back.
        let result = body(unsafe { &mut *self.heap.get() });
        self.unlock();
        result
    }

    fn checked(&self, memory: *mut u8) -> *mut u8 {
        if memory.is_null() && self.scanner.load(Ordering::Relaxed) {
            // SAFETY: ends the process and nothing else.
            unsafe { libc::_exit(NO_MEMORY) };
        }
        memory
    }
}

// SAFETY: Dlmalloc hands out memory of the layout that is asked for, or null.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout has a size other than 0.
        self.checked(self.with(|heap| unsafe { heap.malloc(layout.size(), layout.align()) }))
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        self.checked(self.with(|heap| unsafe { heap.calloc(layout.size(), layout.align()) }))
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller has this memory from here, with this layout.
        self.with(|heap| unsafe { heap.free(memory, layout.size(), layout.align()) });
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above, and the new size is not 0.
        self.checked(self.with(|heap| unsafe { heap.realloc(memory, layout.size(), layout.align(), size) }))
    }
}

/// Keeps other threads of ours from the heap meanwhile, so that a copy of the process finds it whole. `body` may not
/// allocate, and the copy has to call [`enter_scanner`] before it does.
pub(crate) fn locked<T>(body: impl FnOnce() -> T) -> T {
    HEAP.lock();
    let result = body();
    HEAP.unlock();
    result
}

/// In the copy, first of all: its heap is free, and what it cannot have ends it.
pub(crate) fn enter_scanner() {
    HEAP.scanner.store(true, Ordering::Relaxed);
    HEAP.unlock();
}
