// What attention keeps of each query of a tile, written out by token t and head g of the group: included
// inside of main, after first, count, start, length, kv and q_quads.

// Queries past the tile's tokens repeat its last one and are not stored.
#repeat t TOKENS
    let token_$t = min($tu, count - 1u);
    let own_$t = select(start + token_$t, length - 1u, p.ends_at > 0u);
#repeat g GROUP
    let query_$t_$g = (first + token_$t) * q_quads + (kv * GROUP + $gu) * HEAD_QUADS;
    var top_$t_$g = MASKED;
    var sum_$t_$g = 0.0;
#repeat i PARTS
    var acc_$t_$g_$i = vec4<f32>(0.0);
#endrepeat
#endrepeat
#endrepeat
