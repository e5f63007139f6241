//! A body that is pushed by an application that goes on by itself, and what it may send besides a body.
//!
//! Nothing is sent here: [`Exchange::flush`](crate::engine::Exchange::flush) does, and says whether there is room for more.

use super::{OwnedBytes, Response, ResponseError, Stage};
use crate::http::response::Informational;
use crate::http::{Framing, Version};

impl Response {
    /// Adds a piece to the body, copied, behind the head. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ResponseError::NotStarted`].
    pub fn push(&mut self, piece: &[u8]) -> Result<(), ResponseError> {
        self.commit(None)?;
        self.append(piece);
        Ok(())
    }

    /// Adds a piece to the body that is worth not copying. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ResponseError::NotStarted`].
    pub fn push_owned(&mut self, piece: OwnedBytes) -> Result<(), ResponseError> {
        self.commit(None)?;
        self.append_owned(piece);
        Ok(())
    }

    /// Ends a body that was pushed. If there was no piece of it, the response has an empty body.
    ///
    /// # Errors
    /// [`ResponseError::NotStarted`].
    pub fn end_body(&mut self) -> Result<(), ResponseError> {
        self.commit(Some(0))?;
        self.end();
        Ok(())
    }

    /// Ends a body that was pushed with trailer fields (RFC 9112 section 7.1.2), which only the chunked coding has a place
    /// for: they are left out otherwise.
    ///
    /// # Errors
    /// [`ResponseError::NotStarted`], [`ResponseError::Invalid`].
    pub fn end_body_with<'a>(
        &mut self,
        trailers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), ResponseError> {
        self.commit(None)?;
        let lines = Informational::trailers(trailers)?;
        if self.stage == Stage::Sent && self.framing == Some(Framing::Chunked) {
            let tail = self.output.tail();
            tail.extend_from_slice(b"0\r\n");
            tail.extend_from_slice(&lines);
            tail.extend_from_slice(b"\r\n");
            self.stage = Stage::Ended;
        }
        self.end();
        Ok(())
    }

    /// Adds an informational response, such as `103 Early Hints`, before the response itself. Nothing is sent yet.
    /// Clients of HTTP/1.0 don't know of such a thing and get none.
    ///
    /// # Errors
    /// [`ResponseError::AlreadySent`], [`ResponseError::Invalid`].
    pub fn inform(&mut self, informational: &Informational) -> Result<(), ResponseError> {
        if self.head_sent() {
            return Err(ResponseError::AlreadySent);
        }
        if self.circumstances.is_some_and(|circumstances| circumstances.version >= Version::HTTP_11) {
            self.output.tail().extend_from_slice(informational.as_bytes());
        }
        Ok(())
    }

    /// As [`inform`](Self::inform), and sends it, as far as the client takes it now.
    ///
    /// # Errors
    /// As for [`inform`](Self::inform); [`ResponseError::Disconnected`].
    pub fn inform_now(&mut self, informational: &Informational) -> Result<(), ResponseError> {
        self.inform(informational)?;
        self.flush().map(drop).map_err(|_| ResponseError::Disconnected)
    }

    /// Whether there is a head, sent or not.
    pub fn is_started(&self) -> bool {
        self.head.is_started()
    }

    /// How many bytes wait in memory for the client to take them.
    pub fn waiting(&self) -> usize {
        self.output.in_memory()
    }

    /// Adds bytes of whatever an upgraded connection carries, behind the head. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ResponseError::NotStarted`].
    pub fn push_raw(&mut self, bytes: &[u8]) -> Result<(), ResponseError> {
        self.commit(None)?;
        self.body_bytes += bytes.len() as u64;
        self.output.tail().extend_from_slice(bytes);
        Ok(())
    }
}
