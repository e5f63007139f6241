//! A response, as an application makes it.
//!
//! The engine pulls: an application starts the head and names a body; the engine asks the body for its next piece when
//! the client has room for it. [`Response::write`] is the one way to push.

use thiserror::Error;

use super::AppError;
use crate::http::InvalidResponse;

/// Why something could not be made part of a response.
#[derive(Debug, Error)]
pub enum ResponseError {
    /// The head has something in it that can't be sent.
    #[error(transparent)]
    Invalid(#[from] InvalidResponse),
    /// A body before a head.
    #[error("the response was given a body before start() was called")]
    NotStarted,
    /// A second head after the first was sent.
    #[error("the response head was already sent")]
    AlreadySent,
    /// The client is gone, or too much was written while it did not read.
    #[error("the client disconnected")]
    Disconnected,
    /// What a slow client has not read yet could not be kept on disk.
    #[error("cannot buffer the response: {0}")]
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
    pub(crate) response: &'a mut Response,
}

impl Sink<'_> {
    /// Supplies a piece, copied. An empty one is no piece.
    ///
    /// # Errors
    /// None that the caller could mend; pass them on.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), ResponseError> {
        let _ = (piece, &self.response);
        todo!()
    }

    /// Supplies a piece that is worth not copying (some tens of KiB and more).
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn give(&mut self, piece: OwnedBytes) -> Result<(), ResponseError> {
        let _ = piece;
        todo!()
    }
}

/// A response under construction, and on its way out.
#[derive(Debug, Default)]
pub struct Response {}

impl Response {
    /// Begins the head, with a status such as `200 OK`. May be called again as long as the head was not sent; what was
    /// said before is forgotten.
    ///
    /// # Errors
    /// [`ResponseError::Invalid`], [`ResponseError::AlreadySent`].
    pub fn start(&mut self, status: &[u8]) -> Result<(), ResponseError> {
        let _ = status;
        todo!()
    }

    /// Adds a header to the head. Hop-by-hop headers, `Server` and `Date` are left out: they are the server's.
    ///
    /// # Errors
    /// [`ResponseError::Invalid`] for anything that could split the head; [`ResponseError::NotStarted`];
    /// [`ResponseError::AlreadySent`].
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseError> {
        let _ = (name, value);
        todo!()
    }

    /// Whether the head is complete and on its way, so that [`start`](Self::start) can't be called any more.
    pub fn head_sent(&self) -> bool {
        todo!()
    }

    /// Gives the whole body in one piece, copied; its length is known then.
    ///
    /// # Errors
    /// [`ResponseError::NotStarted`].
    pub fn send(&mut self, body: &[u8]) -> Result<(), ResponseError> {
        let _ = body;
        todo!()
    }

    /// Gives the whole body in one piece that is worth not copying.
    ///
    /// # Errors
    /// [`ResponseError::NotStarted`].
    pub fn send_owned(&mut self, body: OwnedBytes) -> Result<(), ResponseError> {
        let _ = body;
        todo!()
    }

    /// Gives a body that will be pulled.
    ///
    /// # Errors
    /// [`ResponseError::NotStarted`].
    pub fn stream(&mut self, body: Box<dyn BodyStream>) -> Result<(), ResponseError> {
        let _ = body;
        todo!()
    }

    /// Gives `length` bytes of an open file, from `offset` on, as the body; the kernel copies them (`sendfile`).
    /// `owner` is kept until they are sent, and dropped where the application runs.
    ///
    /// # Errors
    /// [`ResponseError::NotStarted`].
    pub fn file(
        &mut self,
        file: std::os::fd::OwnedFd,
        offset: u64,
        length: u64,
        owner: Box<dyn Send>,
    ) -> Result<(), ResponseError> {
        let _ = (file, offset, length, owner);
        todo!()
    }

    /// Pushes a piece of the body (WSGI's `write`): sends the head if it wasn't, then as much as the client takes now;
    /// the rest is kept, past a limit in a temporary file. What follows by [`stream`](Self::stream) comes behind it.
    ///
    /// # Errors
    /// [`ResponseError::NotStarted`], [`ResponseError::Disconnected`], [`ResponseError::Buffer`].
    pub fn write(&mut self, piece: &[u8]) -> Result<(), ResponseError> {
        let _ = piece;
        todo!()
    }

    /// Tells the access log the value of the application's variable with this index of those that
    /// [`want_variables`](super::Application::want_variables) named.
    pub fn set_variable(&mut self, index: usize, value: String) {
        let _ = (index, value);
    }
}
