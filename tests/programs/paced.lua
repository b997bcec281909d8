-- Has wrk pause before each request, for a few hundred of them a second.
function delay()
    return 10
end
