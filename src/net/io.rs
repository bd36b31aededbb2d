//! One peer's connection: monoio's socket, plain or inside TLS, with what has arrived and is not yet used.
//!
//! Everything that knows monoio's sockets is here, so that another runtime is a change of this file. Reads are
//! lent an owned buffer and **a read in flight is never dropped** while its connection lives: on io_uring the
//! kernel may already have moved bytes into it. [`Reading`] therefore keeps a peer's read for as long as it takes, over
//! whatever else the session does in between.

mod packed;

use std::io;
use std::net::SocketAddr;
use std::ops::{DerefMut, Range};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use monoio::BufResult;
use monoio::buf::{IoBuf as _, IoBufMut as _};
use monoio::io::{
    AsyncReadRent as _, AsyncWriteRent as _, OwnedReadHalf, OwnedWriteHalf, Splitable as _,
};
use monoio::net::TcpStream;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustls::pki_types::CertificateDer;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::buffers::{Buffers, LARGE, SMALL};
use super::compressed::Compressed;
use super::driver::DriverKind;
use super::keepalive;
use super::records::{Records, TlsFault};

/// The receiving half of a socket.
pub(super) type Receiver = OwnedReadHalf<TcpStream>;

/// A finished read: what it gave, the buffer, and the half it was made on.
pub(super) type ReadDone = (io::Result<usize>, Vec<u8>, Receiver);

/// Takes over a socket accepted elsewhere.
pub(super) fn adopt(stream: std::net::TcpStream) -> io::Result<(Leg, Receiver)> {
    Ok(split(TcpStream::from_std(stream)?))
}

/// Connects.
pub(super) async fn connect(
    address: SocketAddr,
    keepalive: Duration,
) -> io::Result<(Leg, Receiver)> {
    let stream = TcpStream::connect_addr(address).await?;
    stream.set_nodelay(true)?;
    let (leg, receiver) = split(stream);
    let socket = leg.sender.descriptor();
    SockRef::from(&socket).set_tcp_keepalive(&keepalive::asking(keepalive))?;
    // While something sent is not acknowledged the kernel asks nothing, but sends again, for a quarter of an hour.
    SockRef::from(&socket).set_tcp_user_timeout(Some(keepalive::gone(keepalive)))?;
    Ok((leg, receiver))
}

/// How often to try again where a database has not accepted those that came before: it takes them in well under a
/// millisecond unless it is in trouble.
const BACKLOG_PAUSE: Duration = Duration::from_millis(5);

/// Connects to a Unix socket. Whoever waits for this has a deadline.
pub(super) async fn connect_local(path: &Path, driver: DriverKind) -> io::Result<(Leg, Receiver)> {
    let address = SockAddr::unix(path)?;
    loop {
        // There is no handshake to wait for: it is connected at once, or the queue is full.
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address) {
            Ok(()) => {
                socket.set_nonblocking(driver.wants_nonblocking())?;
                return adopt(std::net::TcpStream::from(OwnedFd::from(socket)));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                monoio::time::sleep(BACKLOG_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn split(stream: TcpStream) -> (Leg, Receiver) {
    let fd = stream.as_raw_fd();
    let (receiver, half) = stream.into_split();
    let sender = Sender { half, fd };
    let leg = Leg {
        sender,
        plain: Vec::new(),
        start: 0,
        tls: None,
        compressed: None,
        want: 0,
        streaming: false,
        eof: false,
    };
    (leg, receiver)
}

/// Reads into the tail of `buffer`.
pub(super) async fn read_tail(mut receiver: Receiver, buffer: Vec<u8>) -> ReadDone {
    let tail = buffer.len()..buffer.capacity();
    let (result, slice) = receiver.read(buffer.slice_mut(tail)).await;
    (result, slice.into_inner(), receiver)
}

/// The sending half of a connection, and what was received.
pub(super) struct Leg {
    sender: Sender,
    /// Plaintext received; used up to `start`.
    plain: Vec<u8>,
    start: usize,
    tls: Option<Box<Records>>,
    /// Between TLS and `plain`.
    compressed: Option<Box<Compressed>>,
    /// How much was wanted when the last read was begun.
    want: usize,
    /// The last read filled its buffer: the next one gets a large one.
    streaming: bool,
    /// The peer closed its direction.
    pub(super) eof: bool,
}

impl Leg {
    /// What was received and is not used up.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        self.plain.get_mut(self.start..).unwrap_or_default()
    }

    /// The same, to look at.
    pub(super) fn peek(&self) -> &[u8] {
        self.plain.get(self.start..).unwrap_or_default()
    }

    /// How much that is.
    pub(super) fn len(&self) -> usize {
        self.plain.len() - self.start
    }

    /// Uses up the first `n` bytes.
    pub(super) fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.plain.len());
        if self.start == self.plain.len() {
            self.plain.clear();
            self.start = 0;
        }
    }

    /// Gives all memory back that waiting does not need.
    pub(super) fn settle(&mut self, buffers: &Buffers) {
        self.streaming = false;
        if let Some(closed) = self.compressed.as_mut().and_then(|compressed| compressed.settle()) {
            buffers.give(closed);
        }
        if self.len() == 0 && self.plain.capacity() > 0 {
            self.start = 0;
            buffers.give(std::mem::take(&mut self.plain));
        }
    }

    /// The buffer for a read after which `want` bytes could be there in all. The leg's own bytes go with it, to be
    /// extended, unless it is inside TLS.
    pub(super) fn lend(&mut self, want: usize, buffers: &Buffers) -> Vec<u8> {
        let streaming = self.streaming;
        self.want = want;
        if let Some(tls) = &mut self.tls {
            let size = if streaming || !tls.incoming.is_empty() { LARGE } else { SMALL };
            return grown(std::mem::take(&mut tls.incoming), size, buffers);
        }
        if let Some(compressed) = &mut self.compressed {
            let (closed, wanted) = compressed.take();
            let small = !streaming && wanted <= SMALL && closed.len() < SMALL;
            // As below: what claims to be long gets its memory as it comes.
            let size = if small { SMALL } else { wanted.min(closed.len() * 2).max(LARGE) };
            return grown(closed, size, buffers);
        }
        if self.len() == 0 {
            let size = if streaming || want > SMALL { LARGE } else { SMALL };
            self.start = 0;
            return grown(std::mem::take(&mut self.plain), size, buffers);
        }
        self.plain.drain(..self.start);
        self.start = 0;
        let plain = std::mem::take(&mut self.plain);
        // A packet that claims to be long gets its memory as it comes, not as it claims.
        let size = want.min(plain.len().saturating_mul(2)).max(LARGE);
        grown(plain, size, buffers)
    }

    /// The buffer for a read that only watches over the peer: what was received before stays here.
    pub(super) fn lend_aside(&mut self, buffers: &Buffers) -> Vec<u8> {
        // (A compressed packet that waits for its turn must be here when that comes.)
        let waits =
            self.compressed.as_ref().map_or(self.len() > 0, |compressed| compressed.len() > 0);
        if self.tls.is_some() || !waits {
            return self.lend(1, buffers);
        }
        buffers.take(SMALL)
    }

    /// Takes what a read gave.
    pub(super) fn absorb(
        &mut self,
        result: io::Result<usize>,
        buffer: Vec<u8>,
        buffers: &Buffers,
    ) -> io::Result<()> {
        self.streaming = buffer.len() == buffer.capacity();
        match result {
            Ok(0) => self.eof = true,
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        let Some(tls) = &mut self.tls else {
            if let Some(compressed) = &mut self.compressed {
                packed::put(compressed.incoming(), buffer, buffers);
                return self.gather(self.want, buffers);
            }
            if self.len() == 0 {
                buffers.give(std::mem::replace(&mut self.plain, buffer));
                self.start = 0;
            } else {
                self.plain.extend_from_slice(&buffer);
                buffers.give(buffer);
            }
            return Ok(());
        };
        self.plain.drain(..self.start);
        self.start = 0;
        let opened = match &mut self.compressed {
            Some(compressed) => compressed.incoming(),
            None => &mut self.plain,
        };
        if opened.capacity() == 0 {
            *opened = buffers.take(buffer.len());
        }
        tls.incoming = buffer;
        tls.open(opened).map_err(tls_error)?;
        self.eof |= tls.closed;
        if tls.incoming.is_empty() {
            buffers.give(std::mem::take(&mut tls.incoming));
        }
        self.gather(self.want, buffers)
    }

    /// From here on, towards a client: what it sent after its request for TLS is part of the handshake.
    pub(super) fn start_tls(
        &mut self,
        make: impl FnOnce(&[u8]) -> Result<Records, TlsFault>,
    ) -> io::Result<()> {
        let mut records = make(self.bytes()).map_err(tls_error)?;
        self.plain.clear();
        self.start = 0;
        records.open(&mut self.plain).map_err(tls_error)?;
        self.tls = Some(Box::new(records));
        Ok(())
    }

    /// The certificate that the client showed, if any: it leads to a CA that clients' must lead to.
    pub(super) fn client_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.as_ref().and_then(|tls| tls.client_certificate())
    }

    /// Whether the peer has said nothing that is not read yet, its end included.
    pub(super) fn is_quiet(&self) -> bool {
        !self.eof && self.is_used_up() && self.sender.is_quiet()
    }

    /// Whether data can be written: there is no TLS, or its handshake is over.
    pub(super) fn is_ready(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.ready)
    }

    /// Whether something made of what was written (or of what TLS itself has to say) waits to be sent.
    pub(super) fn owes(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.outgoing.is_empty())
            || self.compressed.as_ref().is_some_and(|compressed| !compressed.outgoing.is_empty())
    }

    /// Sends what is owed.
    pub(super) async fn flush(&mut self, buffers: &Buffers) -> io::Result<()> {
        let outgoing = self.outgoing().map(std::mem::take).unwrap_or_default();
        if outgoing.is_empty() {
            return Ok(());
        }
        let all = 0..outgoing.len();
        let (result, outgoing) = send_rest(&mut self.sender, outgoing, all).await;
        buffers.give(outgoing);
        result
    }

    /// Sends what the socket takes at once, compressed and sealed where the leg is so: how much of `bytes` is done with.
    /// Where it is, that is all of it; what the socket did not take is owed (see [`Self::owes`]).
    pub(super) fn write_now(&mut self, bytes: &[u8], buffers: &Buffers) -> io::Result<usize> {
        if self.tls.is_none() && self.compressed.is_none() {
            return self.sender.send_now(bytes);
        }
        self.wrap(bytes, buffers)?;
        let mut outgoing = self.outgoing().map(std::mem::take).unwrap_or_default();
        let sent = self.sender.send_now(&outgoing)?;
        outgoing.drain(..sent);
        if outgoing.is_empty() {
            buffers.give(outgoing);
        } else if let Some(owed) = self.outgoing() {
            *owed = outgoing;
        }
        Ok(bytes.len())
    }

    /// Sends a part of `buffer`, after what is owed, as the peer makes room for it. Gives the buffer back.
    pub(super) async fn write(
        &mut self,
        buffer: Vec<u8>,
        part: Range<usize>,
        buffers: &Buffers,
    ) -> BufResult<(), Vec<u8>> {
        let bytes = buffer.get(part.clone()).unwrap_or_default();
        let done = match self.write_now(bytes, buffers) {
            Ok(done) => part.start + done,
            Err(error) => return (Err(error), buffer),
        };
        self.write_rest(buffer, done..part.end, buffers).await
    }

    /// What [`Self::write_now`] left: what is owed, or a part of `buffer`. Gives the buffer back.
    pub(super) async fn write_rest(
        &mut self,
        buffer: Vec<u8>,
        part: Range<usize>,
        buffers: &Buffers,
    ) -> BufResult<(), Vec<u8>> {
        if self.outgoing().is_some() {
            return (self.flush(buffers).await, buffer);
        }
        send_rest(&mut self.sender, buffer, part).await
    }

    /// Takes the received bytes out, so that they can be written elsewhere from where they stand.
    pub(super) fn take_plain(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.plain), std::mem::take(&mut self.start))
    }

    /// Puts them back.
    pub(super) fn put_plain(&mut self, plain: Vec<u8>, start: usize) {
        (self.plain, self.start) = (plain, start);
    }
}

/// `buffer` with room for more, and for `size` in all.
fn grown(buffer: Vec<u8>, size: usize, buffers: &Buffers) -> Vec<u8> {
    if buffer.capacity() >= size && buffer.len() < buffer.capacity() {
        return buffer;
    }
    let mut larger = buffers.take(size.max(buffer.len() + 1));
    larger.extend_from_slice(&buffer);
    buffers.give(buffer);
    larger
}

/// The sending half of a socket.
struct Sender {
    half: OwnedWriteHalf<TcpStream>,
    /// The same socket's.
    fd: RawFd,
}

impl Sender {
    /// Sends what the socket takes at once. Almost always that is everything, and then a plain system call costs less
    /// than the way through the ring: no entry in it, no completion, no second turn of the task.
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::send(self.descriptor(), bytes, flags) {
            Ok(sent) => Ok(sent),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether there is nothing to read: no byte, no end, no error.
    fn is_quiet(&self) -> bool {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        let seen = rustix::net::recv(self.descriptor(), &mut [0_u8; 1], flags);
        matches!(seen, Err(Errno::AGAIN))
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket is open for as long as `half` owns it, which is at least as long as `self` lives.
        #[allow(unsafe_code, reason = "monoio's half lends no descriptor")]
        unsafe {
            BorrowedFd::borrow_raw(self.fd)
        }
    }
}

/// Sends the rest as the peer makes room for it.
async fn send_rest(
    sender: &mut Sender,
    mut buffer: Vec<u8>,
    part: Range<usize>,
) -> BufResult<(), Vec<u8>> {
    let Range { mut start, end } = part;
    while start < end {
        let (result, slice) = sender.half.write(buffer.slice(start..end)).await;
        buffer = slice.into_inner();
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buffer),
            Ok(sent) => start += sent,
            Err(error) => return (Err(error), buffer),
        }
    }
    (Ok(()), buffer)
}

fn tls_error(fault: TlsFault) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}

/// A peer's read: at most one, kept until it ends.
///
/// The slot is pinned where its owner is, so that arming a read allocates nothing.
pub(super) struct Reading<S, F, M>
where
    S: DerefMut<Target = Option<F>>,
{
    slot: Pin<S>,
    make: M,
    receiver: Option<Receiver>,
}

impl<S, F, M> Reading<S, F, M>
where
    S: DerefMut<Target = Option<F>>,
    F: Future<Output = ReadDone>,
    M: Fn(Receiver, Vec<u8>) -> F,
{
    /// `make` is [`read_tail`]: its future has no name to write here.
    pub(super) fn new(slot: Pin<S>, make: M, receiver: Receiver) -> Self {
        Self { slot, make, receiver: Some(receiver) }
    }
}

/// A read that its connection keeps, wherever that goes.
pub(super) fn port(receiver: Receiver) -> Box<dyn Port> {
    Box::new(Reading::new(Box::pin(None), read_tail, receiver))
}

/// What is needed of a peer's read.
pub(super) trait Port {
    /// Whether a read is on its way.
    fn is_armed(&self) -> bool;
    /// Starts one into the tail of `buffer`, which must have room. Only while none is on its way.
    fn arm(&mut self, buffer: Vec<u8>);
    /// Its end.
    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<BufResult<usize, Vec<u8>>>;
}

impl<S, F, M> Port for Reading<S, F, M>
where
    S: DerefMut<Target = Option<F>>,
    F: Future<Output = ReadDone>,
    M: Fn(Receiver, Vec<u8>) -> F,
{
    fn is_armed(&self) -> bool {
        self.receiver.is_none()
    }

    fn arm(&mut self, buffer: Vec<u8>) {
        if let Some(receiver) = self.receiver.take() {
            let read = (self.make)(receiver, buffer);
            self.slot.set(Some(read));
        }
    }

    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<BufResult<usize, Vec<u8>>> {
        let Some(read) = self.slot.as_mut().as_pin_mut() else { return Poll::Pending };
        let (result, buffer, receiver) = std::task::ready!(read.poll(cx));
        self.slot.set(None);
        self.receiver = Some(receiver);
        Poll::Ready((result, buffer))
    }
}

/// Lets other tasks run: a stream that never waits must not starve its neighbours. The wake comes from a fresh
/// task, behind all that is queued, because one from within starves I/O under monoio's loop.
pub(super) async fn step_aside() {
    let mut woken = false;
    std::future::poll_fn(|cx| {
        if woken {
            return Poll::Ready(());
        }
        woken = true;
        let waker = cx.waker().clone();
        monoio::spawn(async move { waker.wake() });
        Poll::Pending
    })
    .await;
}
