//! Accepts connections, and ends them without cutting an answer short.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use crate::Tls;
use crate::app::App;

/// Bytes of a request's head from which on no more are read; one read may go past it, up to twice as
/// many.
const HEAD_BYTES: usize = 32 * 1024;
/// Most headers of a request.
const HEADERS: usize = 100;
/// Most open connections; further ones wait to be accepted.
const CONNECTIONS: usize = 4096;
/// Pause after a connection could not be accepted, as when there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is told to stop. The first word lets what is under way come to its end, within the
/// drain time-out; a second one ends at once.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    app: Arc<App>,
    mut stop: mpsc::Receiver<()>,
) -> io::Result<()> {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(app.options.read_timeout)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS);
    let server = Http {
        http,
        router,
        tls: app.options.tls.as_ref().map(Tls::acceptor),
        handshake: app.options.read_timeout,
        app: Arc::clone(&app),
    };
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let mut drained = None;
    loop {
        let accept = async {
            let place = Arc::clone(&connections).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            (place, accepted) = accept => match accepted {
                Ok((stream, _)) => {
                    let (server, watcher) = (server.clone(), graceful.watcher());
                    tokio::spawn(async move {
                        server.connection(stream, watcher).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    time::sleep(PAUSE).await;
                }
            },
            () = until_drained(&mut drained) => break,
            word = stop.recv() => {
                if drained.is_some() || word.is_none() {
                    tracing::warn!("ended at once");
                    return Ok(());
                }
                app.shared.status.drain();
                let deadline = time::Instant::now() + app.options.drain_timeout;
                tracing::info!(seconds = app.options.drain_timeout.as_secs_f32(), "draining");
                drained = Some(Drain { app: Arc::clone(&app), deadline });
            }
        }
    }
    drop(listener);
    // The last bytes of answers that are complete, and idle connections.
    let deadline = drained.map_or_else(time::Instant::now, |drain| drain.deadline);
    tokio::select! {
        () = graceful.shutdown() => tracing::info!("ended"),
        () = time::sleep_until(deadline) => tracing::warn!("ended with answers cut short"),
        _ = stop.recv() => tracing::warn!("ended at once"),
    }
    Ok(())
}

/// What every connection needs.
#[derive(Clone)]
struct Http {
    http: http1::Builder,
    router: Router,
    tls: Option<TlsAcceptor>,
    handshake: Duration,
    app: Arc<App>,
}

impl Http {
    /// Serves a connection to its end.
    async fn connection(self, stream: TcpStream, watcher: Watcher) {
        // Tokens are small; each is sent when it is there.
        let _ = stream.set_nodelay(true);
        // A reader that takes nothing holds its connection no longer than this.
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.app.options.write_timeout));
        let stream = Box::pin(stream);
        let Some(tls) = &self.tls else {
            return self.serve(stream, watcher).await;
        };
        match time::timeout(self.handshake, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.serve(stream, watcher).await,
            Ok(Err(error)) => tracing::debug!(%error, "a tls handshake failed"),
            Err(_) => tracing::debug!("a tls handshake took too long"),
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, watcher: Watcher) {
        let service = TowerToHyperService::new(self.router.clone());
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection).await {
            if is_write_timeout(&error) {
                tracing::warn!("a reader takes nothing, its connection is closed");
                self.app.shared.metrics.slow_reader("connection");
            } else {
                tracing::debug!(%error, "a connection broke");
            }
        }
    }
}

/// Whether a connection ended because nothing that was sent to it was taken. A head that does not come
/// in time is an error of hyper's own, not of the stream.
fn is_write_timeout(error: &hyper::Error) -> bool {
    let mut inner = error.source();
    while let Some(error) = inner {
        let own = error.downcast_ref::<io::Error>();
        if own.is_some_and(|own| own.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        inner = error.source();
    }
    false
}

/// The wait for what is under way.
struct Drain {
    app: Arc<App>,
    deadline: time::Instant,
}

/// Waits until no request is under way or the time is over; for ever while nobody drains.
async fn until_drained(drain: &mut Option<Drain>) {
    let Some(drain) = drain else {
        return std::future::pending().await;
    };
    let all = u32::try_from(drain.app.options.max_concurrent_requests).unwrap_or(u32::MAX);
    let free = drain.app.places.acquire_many(all);
    let _ = time::timeout_at(drain.deadline, free).await;
}
