// Who may open which association, judged by its first PDU (A-ASSOCIATE-RQ, DICOM PS3.8 9.3.2) after the TLS handshake
// and before anything reaches the other side: byte 0 is the type, 10-25 the called and 26-41 the calling AE title.

const A_ASSOCIATE_RQ = 1;
const TITLES_END = 42;

// Spaces around a title mean nothing (PS3.5 6.2); what can't be printed becomes '?', so that it can't forge a line of the log.
function title(pdu, start) {
    let text = '';
    for (let i = start; i < start + 16; i++) {
        text += pdu[i] > 31 && pdu[i] < 127 ? String.fromCharCode(pdu[i]) : '?';
    }
    return text.trim();
}

function refuse(s, why) {
    s.error(`association refused: ${why}`);
    s.deny();
}

// Reads the titles into $called_aet and $calling_aet, and lets the association pass when `judge` finds nothing wrong.
function read(s, judge) {
    s.on('upstream', (data) => {
        if (data.length > 0 && data[0] !== A_ASSOCIATE_RQ) {
            s.off('upstream');
            refuse(s, 'the first bytes are no DICOM association request');
            return;
        }
        if (data.length < TITLES_END) {
            return;  // the rest is waited for, no longer than preread_timeout
        }
        s.off('upstream');
        const called = title(data, 10);
        const calling = title(data, 26);
        s.variables.called_aet = called;
        s.variables.calling_aet = calling;
        const why = judge(called, calling);
        why ? refuse(s, why) : s.done();
    });
}

// From a modality: the certificate must be enrolled, and the calling AE title the one it was enrolled for.
function admit(s) {
    const enrolled = s.variables.enrolled_aet;
    if (!enrolled) {
        return refuse(s, `certificate ${s.variables.ssl_client_fingerprint} is not enrolled (${s.variables.ssl_client_s_dn})`);
    }
    read(s, (called, calling) => calling !== enrolled
        ? `the certificate belongs to '${enrolled}', but the association calls itself '${calling}'`
        : count(s, enrolled));
}

// Takes one of the modality's places, or says that there is none left. nginx's own limit_conn counts before TLS, and so knows
// no modalities but only addresses, which many of them may share.
function count(s, enrolled) {
    const most = Number(s.variables.associations_per_modality);
    if (ngx.shared.open.incr(enrolled, 1, 0) > most) {
        ngx.shared.open.incr(enrolled, -1);
        return `'${enrolled}' has ${most} associations open already`;
    }
    s.variables.counted_aet = enrolled;
    return '';
}

// Gives the place back: nginx asks once, when it logs the association. What it logs is how many the modality still has open.
function leave(s) {
    const aet = s.variables.counted_aet;
    return aet ? String(ngx.shared.open.incr(aet, -1)) : '';
}

// To a modality, from Orthanc: the one that this port leads to, and no other.
function release(s) {
    read(s, (called) => called !== s.variables.receiver_aet &&
        `this port leads to '${s.variables.receiver_aet}', but the association calls '${called}'`);
}

export default {admit, leave, read, release};
