//! What JavaScript calls. Bytes come in through memory that [`alloc`] lent and that the call takes over;
//! what is said goes out as JSON or numbers in [`RESULT`], which lies still until the next call.
//!
//! Everything runs on one thread: that of the worker that loaded the module.

use std::{alloc::Layout, cell::RefCell};

use bunny_base::files::memory;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{Session, host, session::Failure};

/// Counts changes of these calls: a module and the JavaScript beside it are of one version.
const VERSION: u32 = 1;

thread_local! {
    static SESSION: RefCell<Option<Session>> = const { RefCell::new(None) };
    /// What the last call said.
    static RESULT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// What [`embed`] made last.
    static EMBEDDING: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Takes over memory that [`alloc`] lent.
///
/// # Safety
/// It was lent with this length, and is used by nobody else from now on.
unsafe fn taken(at: *mut u8, length: usize) -> Vec<u8> {
    match length {
        0 => Vec::new(),
        // SAFETY: the caller's promise; `alloc` asked for the very layout of such a vector.
        _ => unsafe { Vec::from_raw_parts(at, length, length) },
    }
}

/// Says the outcome: an object, or one of `error`. Returns the place of its bytes.
fn say(outcome: Result<Value, Failure>) -> *const u8 {
    let said = outcome.unwrap_or_else(|error| json!({"error": error}));
    RESULT.with_borrow_mut(|result| {
        *result = said.to_string().into_bytes();
        result.as_ptr()
    })
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

fn with_session<T>(act: impl FnOnce(&mut Session) -> Result<T, Failure>) -> Result<T, Failure> {
    SESSION.with_borrow_mut(|session| match session {
        Some(session) => act(session),
        None => Err("no model is loaded".into()),
    })
}

/// The number of this form of calls; to be called first.
#[unsafe(no_mangle)]
pub extern "C" fn start() -> u32 {
    host::set_up();
    VERSION
}

/// Bytes of what the last call said.
#[unsafe(no_mangle)]
pub extern "C" fn result_length() -> usize {
    RESULT.with_borrow(Vec::len)
}

/// Lends memory, to be written to and handed to another call; null where there is none.
#[unsafe(no_mangle)]
pub extern "C" fn alloc(length: usize) -> *mut u8 {
    match Layout::array::<u8>(length) {
        // SAFETY: of a length that is not zero.
        Ok(layout) if length > 0 => unsafe { std::alloc::alloc(layout) },
        _ => std::ptr::null_mut(),
    }
}

/// Puts a file at a path.
///
/// # Safety
/// Both are lent by [`alloc`] with these lengths, and written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn put(path: *mut u8, path_length: usize, bytes: *mut u8, length: usize) {
    // SAFETY: the caller's promise.
    let (path, bytes) = unsafe { (taken(path, path_length), taken(bytes, length)) };
    memory::put(String::from_utf8_lossy(&path).into_owned(), bytes);
}

/// Loads the model that a [`Load`](crate::request::Load) names, in place of the one before.
///
/// # Safety
/// The request is lent by [`alloc`] with this length, and written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn load(request: *mut u8, length: usize) -> *const u8 {
    // SAFETY: the caller's promise.
    let request = unsafe { taken(request, length) };
    // Two models at once would need twice the memory.
    SESSION.set(None);
    let loaded = read(&request).and_then(Session::load);
    memory::clear();
    say(loaded.map(|(session, said)| {
        SESSION.set(Some(session));
        said
    }))
}

/// Takes the next picture of the conversation to come.
///
/// # Safety
/// The picture is lent by [`alloc`] with this length, and written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn picture(bytes: *mut u8, length: usize) -> *const u8 {
    // SAFETY: the caller's promise.
    let bytes = unsafe { taken(bytes, length) };
    let done = with_session(|session| session.picture(bytes));
    say(done.map(|()| json!({})))
}

/// Begins to answer an [`Ask`](crate::request::Ask).
///
/// # Safety
/// The request is lent by [`alloc`] with this length, and written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ask(request: *mut u8, length: usize) -> *const u8 {
    // SAFETY: the caller's promise.
    let request = unsafe { taken(request, length) };
    say(with_session(|session| {
        let given = session.given();
        session.ask(read(&request)?, given)
    }))
}

/// Goes on with the answer.
#[unsafe(no_mangle)]
pub extern "C" fn step() -> *const u8 {
    say(with_session(Session::step))
}

/// Gives up the answer.
#[unsafe(no_mangle)]
pub extern "C" fn stop() {
    SESSION.with_borrow_mut(|session| session.iter_mut().for_each(Session::stop));
}

/// Forgets all that was said and shown.
#[unsafe(no_mangle)]
pub extern "C" fn reset() {
    SESSION.with_borrow_mut(|session| session.iter_mut().for_each(Session::reset));
}

/// The ids of a text.
///
/// # Safety
/// The text is lent by [`alloc`] with this length, and written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn encode(text: *mut u8, length: usize) -> *const u8 {
    // SAFETY: the caller's promise.
    let text = unsafe { taken(text, length) };
    let ids = with_session(|session| session.encode(&String::from_utf8_lossy(&text)));
    say(ids.map(|ids| json!({"ids": ids})))
}

/// The embeddings of a picture: its sides, and where its numbers lie until the next such call.
///
/// # Safety
/// The picture is lent by [`alloc`] with this length, and written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn embed(bytes: *mut u8, length: usize) -> *const u8 {
    // SAFETY: the caller's promise.
    let bytes = unsafe { taken(bytes, length) };
    let embedded = with_session(|session| session.embed(bytes));
    say(embedded.map(|(numbers, [tokens, hidden])| {
        let at = EMBEDDING.with_borrow_mut(|embedding| {
            *embedding = numbers;
            embedding.as_ptr() as usize
        });
        json!({"tokens": tokens, "hidden": hidden, "at": at})
    }))
}
