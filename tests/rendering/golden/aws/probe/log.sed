# When an image lacks a tag that it needs, Orthanc logs the image's PatientID, in which a hostile modality can end the line:
# what follows is withheld up to the next line that begins as Orthanc's do (E1124 03:05:23.204963 ...).
:top
/PatientID=/ {
    s/PatientID=.*/PatientID=(withheld)/
    :more
    n
    /^[A-Z][0-9]{4} [0-9]{2}:/ b top
    s/.*/(withheld)/
    b more
}
