//! What a client may send before something is too much.

use super::*;

/// Long data has no answer, so that what is too much of it shows at EXECUTE, at each until the statement is reset: what is
/// left of it is not all that the client meant.
#[test]
fn too_much_long_data_is_told_at_execute() {
    let mut player = Player::new("");
    player.prepare();
    let mut data = Vec::new();
    write_frame(&mut data, 0, |out| {
        out.extend_from_slice(&[0x18, 7, 0, 0, 0, 0, 0]);
        out.resize(30_000, b'x');
    });
    player.sent = [Vec::new(), Vec::new()];
    for sent in [1, 2, 2, 2] {
        player.arrive(Side::Client, &data, usize::MAX);
        assert_eq!(player.sent[1].len(), sent * data.len(), "it is not kept, nor sent on");
        assert!(player.sent[0].is_empty() && player.session.is_idle(), "it has no answer");
    }
    let execute = bytes_of("0: 17 07 00 00 00 00 01 00 00 00 00 01 fd 00");
    for _ in 0..2 {
        player.sent = [Vec::new(), Vec::new()];
        player.arrive(Side::Client, &execute, usize::MAX);
        let told = String::from_utf8_lossy(&player.sent[0]).into_owned();
        assert!(told.contains("RG-LIMIT") && player.session.is_idle(), "{told}");
        assert!(player.sent[1].is_empty(), "it was sent");
    }
    player.arrive(Side::Client, &bytes_of("0: 1a 07 00 00 00"), usize::MAX);
    player.arrive(Side::Server, &bytes_of("1: 00 00 00 02 00 00 00"), usize::MAX);
    player.arrive(Side::Client, &execute, usize::MAX);
    assert!(player.transcript.ends_with("decide Execute: SELECT ?\n"), "{}", player.transcript);
}
