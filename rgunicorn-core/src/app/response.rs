//! A response, as an application makes it.
//!
//! The engine pulls: an application starts the head and names a body; the engine asks the body for its next piece when
//! the client has room for it. [`Response::write`] is the one way to push.
//!
//! Here is also where the promises about framing are kept, whatever the application does: nothing after HEAD, 204 and
//! 304; never more bytes than announced; a body that ends too early closes the connection.

mod push;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use thiserror::Error;

use super::{AppError, SpoolLimits};
use crate::engine::{EngineConfig, Flushed, Output, Transport, Upload, guard};
use crate::http::response::Circumstances;
use crate::http::{Framing, InvalidResponse, Refusal, ResponseHead, Version};

/// Why something could not be made part of a response.
#[derive(Debug, Error)]
pub enum ResponseError {
    /// The head has something in it that can't be sent.
    #[error(transparent)]
    Invalid(#[from] InvalidResponse),
    /// A body before a head.
    #[error("the response was given a body before its head was started")]
    NotStarted,
    /// A second head after the first was sent.
    #[error("the response head was already sent")]
    AlreadySent,
    /// The client is gone.
    #[error("the client disconnected")]
    Disconnected,
    /// What a slow client has not read yet could not be kept on disk.
    #[error("cannot buffer the response in a temporary file: {0}")]
    Buffer(#[from] std::io::Error),
}

/// Whether a body has more to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Ask again when there is room.
    More,
    /// That was all.
    Done,
}

/// A body that is pulled. Dropped as soon as it has ended, failed, or the client is gone, always where the worker class
/// runs the application.
pub trait BodyStream: Send {
    /// Supplies the next piece, by calls of the sink's methods. A call that supplies nothing and answers
    /// [`Flow::More`] is asked again.
    ///
    /// # Errors
    /// An [`AppError`]; the connection is aborted, as the head was sent.
    fn next(&mut self, sink: &mut Sink<'_>) -> Result<Flow, AppError>;
}

/// Bytes that are sent without being copied.
pub type OwnedBytes = Box<dyn AsRef<[u8]> + Send>;

/// Takes the pieces of a [`BodyStream`].
#[derive(Debug)]
pub struct Sink<'a> {
    response: &'a mut Response,
}

impl Sink<'_> {
    /// Supplies a piece, copied. An empty one is no piece.
    ///
    /// # Errors
    /// None that the caller could mend; pass them on.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), ResponseError> {
        self.response.append(piece);
        Ok(())
    }

    /// Supplies a piece that is worth not copying (some tens of KiB and more).
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn give(&mut self, piece: OwnedBytes) -> Result<(), ResponseError> {
        self.response.append_owned(piece);
        Ok(())
    }
}

/// Where a response stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// The head may still be changed.
    #[default]
    Open,
    /// The head is part of the output; body bytes may follow.
    Sent,
    /// All of the body was produced.
    Ended,
}

/// A response under construction, and on its way out.
#[derive(Default)]
pub struct Response {
    transport: Option<Arc<Transport>>,
    spill: SpoolLimits,
    /// Asked when the head is finished: whether the worker is about to leave.
    leaving: Option<fn() -> bool>,
    head: ResponseHead,
    circumstances: Option<Circumstances>,
    stage: Stage,
    framing: Option<Framing>,
    /// Bytes that are still owed, where the length was announced.
    owed: u64,
    keep_alive: bool,
    body: Option<Box<dyn BodyStream>>,
    /// The request's body, if it is still arriving.
    upload: Option<Arc<Upload>>,
    output: Output,
    body_bytes: u64,
    /// Bytes that the application supplied and that could not be sent.
    surplus: u64,
    variables: Vec<String>,
    logged_elsewhere: bool,
}

impl Response {
    /// Begins the head, with a status such as `200 OK`. May be called again as long as the head was not sent; what was
    /// said before is forgotten.
    ///
    /// # Errors
    /// [`ResponseError::Invalid`], [`ResponseError::AlreadySent`].
    pub fn start(&mut self, status: &[u8]) -> Result<(), ResponseError> {
        if self.head_sent() {
            return Err(ResponseError::AlreadySent);
        }
        Ok(self.head.start(status)?)
    }

    /// Adds a header to the head. Hop-by-hop headers, `Server` and `Date` are left out: they are the server's.
    ///
    /// # Errors
    /// [`ResponseError::Invalid`] for anything that could split the head; [`ResponseError::NotStarted`];
    /// [`ResponseError::AlreadySent`].
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseError> {
        self.open_head()?;
        Ok(self.head.header(name, value)?)
    }

    /// As [`header`](Self::header), but an own `Server` and `Date` take the place of ours.
    ///
    /// # Errors
    /// As for [`header`](Self::header).
    pub fn header_over_ours(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseError> {
        self.open_head()?;
        Ok(self.head.header_over_ours(name, value)?)
    }

    /// Takes back a head that was started and not sent, as if nothing had been said.
    pub fn take_back(&mut self) {
        if !self.head_sent() {
            self.head.clear();
        }
    }

    fn open_head(&self) -> Result<(), ResponseError> {
        match self.head.is_started() {
            _ if self.head_sent() => Err(ResponseError::AlreadySent),
            true => Ok(()),
            false => Err(ResponseError::NotStarted),
        }
    }

    /// Whether the head is complete and on its way, so that [`start`](Self::start) can't be called any more.
    pub fn head_sent(&self) -> bool {
        self.stage != Stage::Open
    }

    /// Gives the whole body in one piece, copied; its length is known then.
    ///
    /// # Errors
    /// [`ResponseError::NotStarted`].
    pub fn send(&mut self, body: &[u8]) -> Result<(), ResponseError> {
        self.commit(Some(body.len() as u64))?;
        self.append(body);
        self.end();
        Ok(())
    }

    /// Gives the whole body in one piece that is worth not copying.
    ///
    /// # Errors
    /// [`ResponseError::NotStarted`].
    pub fn send_owned(&mut self, body: OwnedBytes) -> Result<(), ResponseError> {
        self.commit(Some((*body).as_ref().len() as u64))?;
        self.append_owned(body);
        self.end();
        Ok(())
    }

    /// Gives a body that will be pulled.
    ///
    /// # Errors
    /// [`ResponseError::NotStarted`].
    pub fn stream(&mut self, body: Box<dyn BodyStream>) -> Result<(), ResponseError> {
        self.commit(None)?;
        if self.framing == Some(Framing::None) {
            // Nothing of it would be sent, and it might never end: it is dropped unread.
            self.end();
        } else {
            self.body = Some(body);
        }
        Ok(())
    }

    /// Gives a body that will be pulled and whose first piece is there already: it goes out together with the head.
    ///
    /// # Errors
    /// [`ResponseError::NotStarted`].
    pub fn stream_from(&mut self, first: &[u8], body: Box<dyn BodyStream>) -> Result<(), ResponseError> {
        self.commit(None)?;
        self.append(first);
        if self.surplus > 0 {
            // Nothing more of it would be sent, as for HEAD, or too much was sent already.
            self.end();
            return Ok(());
        }
        self.stream(body)
    }

    /// Gives `length` bytes of an open file, from `offset` on, as the body; the kernel copies them (`sendfile`).
    /// `owner` is kept until they are sent, and dropped where the application runs.
    ///
    /// # Errors
    /// [`ResponseError::NotStarted`].
    pub fn file(
        &mut self,
        file: OwnedFd,
        offset: u64,
        length: u64,
        owner: Box<dyn Send>,
    ) -> Result<(), ResponseError> {
        self.commit(Some(length))?;
        let length = match self.framing {
            Some(Framing::None) | None => {
                self.surplus += length;
                0
            }
            Some(Framing::Length(_)) => {
                let allowed = length.min(self.owed);
                self.surplus += length - allowed;
                self.owed -= allowed;
                allowed
            }
            Some(Framing::Chunked | Framing::UntilClose) => length,
        };
        let chunked = self.framing == Some(Framing::Chunked) && length > 0;
        if chunked {
            self.chunk_size(length);
        }
        self.body_bytes += length;
        self.output.push_file(File::from(file), offset, length, Some(owner));
        if chunked {
            self.output.tail().extend_from_slice(b"\r\n");
        }
        self.end();
        Ok(())
    }

    /// Pushes a piece of the body (WSGI's `write`): sends the head if it wasn't, then as much as the client takes now;
    /// the rest is kept, past a limit in a temporary file. What follows by [`stream`](Self::stream) comes behind it.
    ///
    /// # Errors
    /// [`ResponseError::NotStarted`], [`ResponseError::Disconnected`], [`ResponseError::Buffer`].
    pub fn write(&mut self, piece: &[u8]) -> Result<(), ResponseError> {
        self.commit(None)?;
        self.append(piece);
        if let Some(transport) = &self.transport {
            self.output.flush(transport).map_err(|_| ResponseError::Disconnected)?;
        }
        if self.output.in_memory() > self.spill.memory {
            self.output.spill(|| self.spill.scratch.file())?;
        }
        Ok(())
    }

    /// Says that the application has answered by itself, on the [shared socket](super::Request::share_socket): nothing is
    /// sent, the connection ends, and the access log has it as 101.
    pub fn answered_elsewhere(&mut self) {
        if !self.head_sent() {
            // A status of our own making is valid.
            let _ = self.head.start(b"101 Switching Protocols");
            self.stage = Stage::Ended;
        }
    }

    /// Tells the access log the value of the application's variable with this index of those that
    /// [`want_variables`](super::Application::want_variables) named.
    pub fn set_variable(&mut self, index: usize, value: String) {
        if self.variables.len() <= index {
            self.variables.resize(index + 1, String::new());
        }
        if let Some(slot) = self.variables.get_mut(index) {
            *slot = value;
        }
    }

    /// Whoever calls this sees to the request's access line.
    pub fn log_elsewhere(&mut self) {
        self.logged_elsewhere = true;
    }

    pub(crate) fn is_logged_elsewhere(&self) -> bool {
        self.logged_elsewhere
    }

    /// Puts the head into the output, unless it is there already.
    fn commit(&mut self, known_length: Option<u64>) -> Result<(), ResponseError> {
        if self.head_sent() {
            return Ok(());
        }
        if !self.head.is_started() {
            return Err(ResponseError::NotStarted);
        }
        let unknown =
            Circumstances { version: Version::HTTP_11, head_request: false, keep_alive: false, known_length };
        let mut circumstances = Circumstances { known_length, ..self.circumstances.unwrap_or(unknown) };
        circumstances.keep_alive &= !self.leaving.is_some_and(|leaving| leaving());
        if let Some(upload) = self.upload.take() {
            circumstances.keep_alive &= upload.response_begins();
        }
        let (framing, keep_alive) = self.head.finish(self.output.tail(), &circumstances);
        if let Framing::Length(length) = framing {
            self.owed = length;
        }
        self.framing = Some(framing);
        self.keep_alive = keep_alive;
        self.stage = Stage::Sent;
        Ok(())
    }

    /// How many of `count` body bytes may still be sent; notes the rest.
    fn allow(&mut self, count: usize) -> usize {
        let allowed = match self.framing {
            Some(Framing::None) | None => 0,
            Some(Framing::Length(_)) => {
                let allowed = (count as u64).min(self.owed);
                self.owed -= allowed;
                usize::try_from(allowed).unwrap_or(count)
            }
            Some(Framing::Chunked | Framing::UntilClose) => count,
        };
        self.surplus += (count - allowed) as u64;
        self.body_bytes += allowed as u64;
        allowed
    }

    fn append(&mut self, piece: &[u8]) {
        let allowed = self.allow(piece.len());
        let piece = piece.get(..allowed).unwrap_or(piece);
        if piece.is_empty() {
            return;
        }
        if self.framing == Some(Framing::Chunked) {
            self.chunk_size(piece.len() as u64);
            let tail = self.output.tail();
            tail.extend_from_slice(piece);
            tail.extend_from_slice(b"\r\n");
        } else {
            self.output.tail().extend_from_slice(piece);
        }
    }

    fn append_owned(&mut self, piece: OwnedBytes) {
        let length = (*piece).as_ref().len();
        let allowed = self.allow(length);
        if allowed == 0 {
            return;
        }
        if allowed < length {
            // Too much was supplied: an error of the application's, so that a copy does no harm.
            let start = (*piece).as_ref().get(..allowed).unwrap_or(&[]);
            self.output.tail().extend_from_slice(start);
        } else if self.framing == Some(Framing::Chunked) {
            self.chunk_size(length as u64);
            self.output.push_owned(piece);
            self.output.tail().extend_from_slice(b"\r\n");
        } else {
            self.output.push_owned(piece);
        }
    }

    fn chunk_size(&mut self, length: u64) {
        use std::io::Write;
        // Writing to a Vec can't fail.
        let _ = write!(self.output.tail(), "{length:X}\r\n");
    }

    /// Ends the body.
    fn end(&mut self) {
        if self.stage == Stage::Sent {
            if self.framing == Some(Framing::Chunked) {
                self.output.tail().extend_from_slice(b"0\r\n\r\n");
            }
            self.stage = Stage::Ended;
        }
    }
}

/// What became of an attempt to get on with a response.
#[derive(Debug)]
pub(crate) enum Progress {
    /// All of it is in the kernel, and nothing of the application's is held.
    Complete,
    /// The client's socket is full; go on when it is writable.
    Blocked,
    /// There is more to pull; others should have their turn first.
    Yielded,
}

/// Why a response can't be finished.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The connection failed.
    Client(std::io::Error),
    /// The application failed.
    Application(AppError),
}

/// The engine's side.
impl Response {
    /// Makes it ready for the response to a request.
    pub(crate) fn reset(
        &mut self,
        transport: &Arc<Transport>,
        config: &EngineConfig,
        circumstances: Circumstances,
    ) {
        if self.transport.is_none() {
            self.transport = Some(Arc::clone(transport));
            self.spill = config.spool.clone();
            self.leaving = Some(config.leaving);
        }
        self.head.clear();
        self.circumstances = Some(circumstances);
        self.stage = Stage::Open;
        self.framing = None;
        self.owed = 0;
        self.keep_alive = false;
        self.body = None;
        self.upload = None;
        self.body_bytes = 0;
        self.surplus = 0;
        self.variables.clear();
        self.logged_elsewhere = false;
    }

    /// Says that the request's body arrives while the application runs.
    pub(crate) fn set_upload(&mut self, upload: Arc<Upload>) {
        self.upload = Some(upload);
    }

    /// Has the head, unless it was sent, say that the connection ends with this response.
    pub(crate) fn end_connection(&mut self) {
        if let Some(circumstances) = &mut self.circumstances {
            circumstances.keep_alive = false;
        }
    }

    /// Called when the application has returned: a head without a body is complete; no head at all is an error.
    pub(crate) fn close(&mut self) -> Result<(), ResponseError> {
        if self.body.is_none() && self.stage != Stage::Ended {
            self.commit(Some(0))?;
            self.end();
        }
        Ok(())
    }

    /// Sends, and pulls what can be sent. Runs where the application runs: the body is called and dropped here.
    pub(crate) fn drive(&mut self) -> Result<Progress, Broken> {
        // How often one response may be pulled before others have their turn.
        const PULLS: usize = 32;
        for _ in 0..PULLS {
            let flushed = self.flush().map_err(Broken::Client)?;
            self.output.drop_retired();
            if flushed == Flushed::Blocked {
                return Ok(Progress::Blocked);
            }
            let Some(mut body) = self.body.take() else {
                return Ok(Progress::Complete);
            };
            match guard(|| body.next(&mut Sink { response: self })) {
                // More than was announced: no use in pulling on.
                Ok(Flow::More) if self.surplus == 0 => self.body = Some(body),
                Ok(_) => self.end(),
                Err(error) => return Err(Broken::Application(error)),
            }
        }
        Ok(Progress::Yielded)
    }

    /// Sends what is there, without the application.
    pub(crate) fn flush(&mut self) -> std::io::Result<Flushed> {
        match &self.transport {
            Some(transport) => self.output.flush(transport),
            None => Ok(Flushed::Everything),
        }
    }

    /// Whether the application's place must be visited before the response is complete or can be dropped.
    pub(crate) fn needs_application(&self) -> bool {
        self.body.is_some() || self.output.has_retired()
    }

    /// Whether all of it is in memory, and less than `most`, so that it may as well be sent with the next response.
    pub(crate) fn can_wait(&self, most: usize) -> bool {
        self.body.is_none() && self.is_small(most)
    }

    /// Whether what there is of it is in memory, and less than `most`.
    pub(crate) fn is_small(&self, most: usize) -> bool {
        !self.output.holds_files() && self.output.in_memory() < most
    }

    /// Whether something of the application's would be dropped with it.
    pub(crate) fn holds_application(&self) -> bool {
        self.body.is_some() || self.output.holds_owners()
    }

    /// Gives up what was not sent. Runs where the application runs.
    pub(crate) fn abandon(&mut self) {
        self.body = None;
        self.output.clear();
    }

    /// Answers that the request can't be accepted, though the application was called. Nothing was sent yet.
    pub(crate) fn refuse(&mut self, refusal: &Refusal) {
        self.body = None;
        self.end_connection();
        let status = format!("{} {}", refusal.status, refusal.reason);
        // A status and a header of our own making are valid.
        let _ = self.head.start(status.as_bytes());
        let _ = self.head.header(b"Content-Type", b"text/html");
        let _ = self.send(&refusal.body());
    }

    /// The application failed: `refusal` if nothing was sent, else nothing more of this response. The connection ends.
    pub(crate) fn fail(&mut self, refusal: &dyn Fn() -> Refusal) {
        self.body = None;
        if self.head_sent() {
            // What was produced goes out as far as the client takes it: responses to earlier requests may be part of it.
            // Whether that works makes no difference any more.
            let _ = self.flush();
            self.output.clear();
            return;
        }
        self.refuse(&refusal());
    }

    /// Whether the connection can serve another request after this response.
    pub(crate) fn leaves_connection_usable(&self) -> bool {
        self.keep_alive && self.stage == Stage::Ended && !self.is_short()
    }

    /// Whether fewer bytes than announced were supplied.
    pub(crate) fn is_short(&self) -> bool {
        matches!(self.framing, Some(Framing::Length(_))) && self.owed > 0
    }

    /// How many bytes the application announced, where that is how the body is framed.
    pub(crate) fn announced(&self) -> Option<u64> {
        match self.framing {
            // A 205 has none, whatever was said.
            Some(Framing::Length(length)) if self.status() != 205 => Some(length),
            _ => None,
        }
    }

    /// Whether a client could take a cut-off body for a whole one.
    pub(crate) fn ends_with_connection(&self) -> bool {
        self.framing == Some(Framing::UntilClose)
    }

    /// How many bytes the application supplied that could not be sent.
    pub(crate) fn surplus(&self) -> u64 {
        self.surplus
    }

    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    /// The status as it was said, such as `200 OK`.
    pub fn status_line(&self) -> &[u8] {
        self.head.status_line()
    }

    /// The headers of the application.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.head.headers()
    }

    /// How many bytes of the body there were by now.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    pub(crate) fn variables(&self) -> &[String] {
        &self.variables
    }

    pub(crate) fn output(&mut self) -> &mut Output {
        &mut self.output
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.head.status())
            .field("stage", &self.stage)
            .field("framing", &self.framing)
            .field("body_bytes", &self.body_bytes)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}
